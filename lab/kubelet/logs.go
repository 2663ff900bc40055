package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// followTime is how often a log that is followed is looked at.
const followTime = 100 * time.Millisecond

// logQuery is what part of a log is asked for.
type logQuery struct {
	follow, previous, timestamps bool
	tail                         int   // lines; -1: all
	limit                        int64 // bytes; -1: all
	since                        time.Time
	stream                       string // stdout, stderr; empty: both
}

// parseLogQuery reads the parameters of a request. Source: k8s.io/api/core/v1, PodLogOptions.
func parseLogQuery(v url.Values, now time.Time) (logQuery, error) {
	q := logQuery{tail: -1, limit: -1}
	for name, to := range map[string]*bool{"follow": &q.follow, "previous": &q.previous, "timestamps": &q.timestamps} {
		if text := v.Get(name); text != "" {
			b, err := strconv.ParseBool(text)
			if err != nil {
				return q, fmt.Errorf("%s: %q: is no truth value (true, false)", name, text)
			}
			*to = b
		}
	}
	if text := v.Get("tailLines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return q, fmt.Errorf("tailLines: %q: is no number of lines", text)
		}
		q.tail = n
	}
	if text := v.Get("limitBytes"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return q, fmt.Errorf("limitBytes: %q: is no number of bytes", text)
		}
		q.limit = n
	}
	if text := v.Get("sinceSeconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, fmt.Errorf("sinceSeconds: %q: is no number of seconds", text)
		}
		q.since = now.Add(-time.Duration(n) * time.Second)
	}
	if text := v.Get("sinceTime"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return q, fmt.Errorf("sinceTime: %q: is no time (RFC 3339)", text)
		}
		q.since = t
	}
	switch text := v.Get("stream"); text {
	case "", "All":
	case "Stdout":
		q.stream = "stdout"
	case "Stderr":
		q.stream = "stderr"
	default:
		return q, fmt.Errorf("stream: %q: is unknown (All, Stdout, Stderr)", text)
	}
	return q, nil
}

func (s *server) logs(w http.ResponseWriter, r *http.Request) {
	v := s.pod(w, r)
	if v == nil {
		return
	}
	q, err := parseLogQuery(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	container := r.PathValue("container")
	run := v.runs[container]
	if q.previous {
		run--
	}
	if run < 1 {
		http.Error(w, fmt.Sprintf("container %s of pod %s: was not started, or no earlier time", container, r.PathValue("pod")), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	flush := func() {}
	if f, ok := w.(http.Flusher); ok {
		flush = f.Flush
	}
	ended := func() bool { // the run is over: there will be no more
		now, err := s.kubelet.find(r.PathValue("namespace"), r.PathValue("pod"), v.uid)
		return err != nil || now.runs[container] != v.runs[container] || !now.going[container]
	}
	err = copyLog(r.Context(), w, flush, logPath(v.dir, container, run), q, ended)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.kubelet.log.Debug("logs", "container", container, "error", err)
	}
}

// copyLog writes what q asks for of a log. A log that is followed ends when
// ended says that there will be no more, or ctx does.
func copyLog(ctx context.Context, w io.Writer, flush func(), path string, q logQuery, ended func() bool) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	if q.tail >= 0 {
		if err := seekTail(f, q.tail); err != nil {
			return err
		}
	}
	out := &lineWriter{w: w, query: q, left: q.limit}
	reader := bufio.NewReader(f)
	var line []byte
	last := false
	for {
		part, err := reader.ReadBytes('\n')
		line = append(line, part...)
		if err == nil {
			if done, err := out.write(line); done || err != nil {
				return err
			}
			line = line[:0]
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		flush()
		if !q.follow || last {
			return nil
		}
		if next := replaced(f, path); next != nil { // it was put aside, and read to its end
			f.Close()
			f, line = next, line[:0]
			reader.Reset(f)
			continue
		}
		last = ended() // one more look: what was written before
		if !last && !pause(ctx, followTime) {
			return ctx.Err()
		}
	}
}

// replaced returns the file at path if it is not f.
func replaced(f *os.File, path string) *os.File {
	old, err := f.Stat()
	if err != nil {
		return nil
	}
	now, err := os.Stat(path)
	if err != nil || os.SameFile(old, now) {
		return nil
	}
	next, err := os.Open(path)
	if err != nil {
		return nil
	}
	return next
}

// seekTail goes to where the last n lines begin.
func seekTail(f *os.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	const step = 32 << 10
	buffer := make([]byte, step)
	found := 0
	for at := end; at > 0; {
		size := min(at, step)
		at -= size
		if _, err := f.ReadAt(buffer[:size], at); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if buffer[i] != '\n' || at+i == end-1 {
				continue
			}
			if found++; found == n {
				_, err := f.Seek(at+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// lineWriter writes lines of a log as people want them.
type lineWriter struct {
	w     io.Writer
	query logQuery
	left  int64 // bytes; -1: any number
}

// write writes one line of a log, or nothing if it is not asked for. done says
// that no more is.
func (l *lineWriter) write(line []byte) (done bool, err error) {
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	stream, rest, ok2 := bytes.Cut(rest, []byte{' '})
	tag, text, ok3 := bytes.Cut(rest, []byte{' '})
	if !ok || !ok2 || !ok3 {
		return false, nil // a line of a machine that lost its power
	}
	if l.query.stream != "" && l.query.stream != string(stream) {
		return false, nil
	}
	if !l.query.since.IsZero() {
		at, err := time.Parse(time.RFC3339Nano, string(stamp))
		if err == nil && at.Before(l.query.since) {
			return false, nil
		}
	}
	if string(tag) == "P" {
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	if l.query.timestamps {
		text = append(append(bytes.Clone(stamp), ' '), text...)
	}
	if l.left >= 0 {
		text = text[:min(int64(len(text)), l.left)]
		l.left -= int64(len(text))
	}
	_, err = l.w.Write(text)
	return l.left == 0, err
}
