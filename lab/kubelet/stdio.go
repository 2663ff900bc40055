package kubelet

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"
)

// Bounds of a container's output.
const (
	maxLine        = 16 << 10    // longer lines are cut into parts, as CRI does
	maxLog         = 10 << 20    // then the log is put aside, and the one that was aside is gone
	viewerPatience = time.Second // for somebody attached who does not read
)

// stdio is what a container's main process has as stdin, stdout and stderr,
// its log and who is attached.
type stdio struct {
	child    []*os.File // for the process: 0, 1, 2
	terminal *os.File   // our side of its terminal; nil: none
	stdin    *os.File   // our side; nil: it has none
	once     bool
	log      *logFile
	copies   sync.WaitGroup

	mu       sync.Mutex
	attached map[*viewer]bool
}

// viewer is somebody attached.
type viewer struct{ stdout, stderr *os.File }

// newStdio opens what s asks for.
func newStdio(s *spec) (_ *stdio, err error) {
	o := &stdio{once: s.Once, attached: map[*viewer]bool{}}
	defer func() {
		if err != nil {
			o.closeChild()
			o.close()
		}
	}()
	if o.log, err = openLog(s.Log); err != nil {
		return nil, err
	}
	if s.TTY {
		master, slave, err := pty.Open()
		if err != nil {
			return nil, err
		}
		o.terminal, o.child = master, []*os.File{slave, slave, slave}
		if s.Stdin {
			o.stdin = master
		}
		o.copies.Go(func() { o.copy(master, "stdout") })
		return o, nil
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	o.child = []*os.File{in}
	if s.Stdin {
		in.Close()
		if o.child[0], o.stdin, err = os.Pipe(); err != nil {
			o.child = nil
			return nil, err
		}
	}
	for _, name := range []string{"stdout", "stderr"} {
		ours, theirs, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		o.child = append(o.child, theirs)
		o.copies.Go(func() { o.copy(ours, name) })
	}
	return o, nil
}

func (o *stdio) closeChild() {
	for _, f := range o.child {
		f.Close()
	}
}

// finish returns when all output is in the log. Who is attached is told by the
// end of their files.
func (o *stdio) finish() {
	done := make(chan struct{})
	go func() {
		o.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Second): // somebody outside holds it
	}
	o.close()
}

func (o *stdio) close() {
	for _, f := range []*os.File{o.terminal, o.stdin} {
		if f != nil {
			f.Close()
		}
	}
	if o.log != nil {
		o.log.close()
	}
}

// copy carries one stream to the log, by lines, and to who is attached, as it
// comes, until it ends.
func (o *stdio) copy(from *os.File, stream string) {
	defer from.Close()
	buffer := make([]byte, maxLine)
	var line []byte // begun
	for {
		n, err := from.Read(buffer)
		o.show(buffer[:n], stream)
		rest := buffer[:n]
		for {
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				break
			}
			o.log.write(append(line, rest[:end]...), stream, true)
			line, rest = line[:0], rest[end+1:]
		}
		if line = append(line, rest...); len(line) >= maxLine || err != nil && len(line) > 0 {
			o.log.write(line, stream, false)
			line = line[:0]
		}
		if err != nil {
			return // of a terminal, the end is EIO
		}
	}
}

// show gives output to everybody attached. Who does not take it is attached no
// more.
func (o *stdio) show(data []byte, stream string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v := range o.attached {
		to := v.stdout
		if stream == "stderr" {
			to = v.stderr
		}
		if to.SetWriteDeadline(time.Now().Add(viewerPatience)); len(data) > 0 {
			if _, err := to.Write(data); err != nil {
				delete(o.attached, v)
			}
		}
	}
}

// attach shows v all output from now on and carries its stdin, until detach.
func (o *stdio) attach(v *viewer, stdin *os.File) (detach func()) {
	o.mu.Lock()
	o.attached[v] = true
	o.mu.Unlock()
	if o.stdin != nil && stdin != nil {
		go func() {
			io.Copy(o.stdin, stdin)
			if o.once && o.terminal == nil {
				o.stdin.Close()
			}
		}()
	}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.attached, v)
		if stdin != nil {
			stdin.Close()
		}
	}
}

// resize tells the terminal how large its window is.
func (o *stdio) resize(rows, columns uint16) error {
	if o.terminal == nil {
		return nil
	}
	return pty.Setsize(o.terminal, &pty.Winsize{Rows: rows, Cols: columns})
}

// logFile is a container's log in the form that CRI gives it: a line each of
// time, stream, F (a whole line) or P (a part of one), and the text.
type logFile struct {
	mu   sync.Mutex
	path string
	file *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &logFile{path: path, file: f, size: info.Size()}, nil
}

// write adds a line. A disk that is full costs lines, not the container.
func (l *logFile) write(text []byte, stream string, whole bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tag := " P "
	if whole {
		tag = " F "
	}
	line := make([]byte, 0, len(text)+48)
	line = time.Now().UTC().AppendFormat(line, time.RFC3339Nano)
	line = append(append(append(append(line, ' '), stream...), tag...), text...)
	n, err := l.file.Write(append(line, '\n'))
	l.size += int64(n)
	if err == nil && l.size > maxLog {
		l.rotate()
	}
}

func (l *logFile) rotate() {
	if err := os.Rename(l.path, l.path+".old"); err != nil {
		return
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	l.file.Close()
	l.file, l.size = f, 0
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
}
