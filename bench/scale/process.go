package scale

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that the run started.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed: it ended
}

// launch starts cmd with its output in a file.
func launch(cmd *exec.Cmd, log string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of this process is not one of that
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end asks p to end, and kills it if it does not. A nil p has ended.
func (p *process) end() error {
	if p == nil {
		return nil
	}
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(stopTime):
		}
	}
	return fmt.Errorf("process %d: is still there after a kill", p.cmd.Process.Pid)
}

// Usage is what a process used.
type Usage struct {
	RSSBytes     int64   `json:"rss_bytes"`
	MostRSSBytes int64   `json:"most_rss_bytes"` // at any time
	CPUSeconds   float64 `json:"cpu_seconds"`
}

// usage returns what p used until now. Source: proc_pid_status(5), VmRSS and
// VmHWM; proc_pid_stat(5), fields 14 and 15.
func (p *process) usage() (u Usage, err error) {
	select {
	case <-p.done:
		return u, fmt.Errorf("%s: has ended (see %s)", p.cmd.Path, p.log)
	default:
	}
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	data, err := os.ReadFile(dir + "/status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			u.RSSBytes = kib << 10
		case "VmHWM":
			u.MostRSSBytes = kib << 10
		}
	}
	data, err = os.ReadFile(dir + "/stat")
	if err != nil {
		return u, err
	}
	const user, system, hertz = 11, 12, 100 // behind the name, which is in brackets
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	for _, f := range fields[user : system+1] {
		ticks, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return u, err
		}
		u.CPUSeconds += float64(ticks) / hertz
	}
	return u, nil
}

// heap returns what weftd's heap has in use.
func (r *rig) heap(ctx context.Context) (int64, error) {
	var data []byte
	if err := r.ask(ctx, http.MethodGet, "/metrics", nil, &data); err != nil {
		return 0, err
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "go_memstats_heap_inuse_bytes "); ok {
			n, err := strconv.ParseFloat(value, 64)
			return int64(n), err
		}
	}
	return 0, errors.New("weftd: has no metric go_memstats_heap_inuse_bytes")
}
