package kubelet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A pod's first process (pod-init) serves one request a connection, on a unix
// socket: a line of JSON with descriptors beside it, answered by lines of JSON.

// Operations of pod-init.
const (
	opStart  = "start"  // starts container Spec; one reply
	opSignal = "signal" // sends Signal to the container's main process; one reply
	opExec   = "exec"   // runs Args in the container with the descriptors as its stdio; one reply, when it ended
	opAttach = "attach" // stdin, stdout and stderr of a container; one reply, when it ended. Further requests: opResize
	opResize = "resize" // Rows and Columns of the terminal of an attached container
	opWatch  = "watch"  // a reply now and whenever a container changed
)

// request is what pod-init is asked.
type request struct {
	Op        string   `json:"op"`
	Container string   `json:"container,omitempty"` // its name
	Spec      *spec    `json:"spec,omitempty"`
	Run       string   `json:"run,omitempty"` // opSignal: ID of the run that it is for
	Signal    int      `json:"signal,omitempty"`
	Args      []string `json:"args,omitempty"`
	TTY       bool     `json:"tty,omitempty"` // opExec: the one descriptor is the process's terminal
	Rows      uint16   `json:"rows,omitempty"`
	Columns   uint16   `json:"columns,omitempty"`
}

// reply is what pod-init answers.
type reply struct {
	Error      string           `json:"error,omitempty"`
	Exit       int              `json:"exit"`
	Containers map[string]state `json:"containers,omitempty"` // by name
}

// spec is a container as it shall run.
type spec struct {
	ID      string            `json:"id"` // of this run
	Name    string            `json:"name"`
	Args    []string          `json:"args"`
	Env     []string          `json:"env"`
	Dir     string            `json:"dir"`    // working directory; made if missing
	Mounts  []mount           `json:"mounts"` // in this order
	Files   map[string]string `json:"files"`  // path to content, written into its root
	Hide    []string          `json:"hide"`   // directories of the machine that it does not see
	Scratch string            `json:"scratch"`
	Log     string            `json:"log"`
	Stdin   bool              `json:"stdin"`
	Once    bool              `json:"once"` // stdin ends with the first who attached
	TTY     bool              `json:"tty"`
}

// mount shows a file or directory of the machine in a container.
type mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
}

// state is how the last run of a container is.
type state struct {
	ID       string    `json:"id"`
	Running  bool      `json:"running"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Exit     int       `json:"exit"`
	Signal   int       `json:"signal,omitempty"`
	Failure  string    `json:"failure,omitempty"` // why it could not be started
}

// socketName is the name of the socket in a pod's directory.
const socketName = "init.sock"

// throughDir calls fn with a path to dir that is short enough for a socket's
// address, which may have 107 bytes.
func throughDir(dir string, fn func(short string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return fn("/proc/self/fd/" + strconv.Itoa(int(d.Fd())))
}

// listen opens the socket of the pod in dir.
func listen(dir string) (l *net.UnixListener, err error) {
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	err = throughDir(dir, func(short string) error {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, socketName), Net: "unix"})
		return err
	})
	if err == nil {
		l.SetUnlinkOnClose(false)
	}
	return l, err
}

// session is the caller's side of one request.
type session struct {
	conn   *net.UnixConn
	decode *json.Decoder
}

// open sends a request and files to the pod-init of the pod in dir.
func open(dir string, r request, files ...*os.File) (*session, error) {
	var conn *net.UnixConn
	err := throughDir(dir, func(short string) (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(short, socketName), Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pod-init: %w", err)
	}
	s := &session{conn, json.NewDecoder(bufio.NewReader(conn))}
	if err := s.send(r, files...); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) send(r request, files ...*os.File) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
			// Fd made it blocking, for everyone who shares it.
			if err := unix.SetNonblock(fds[i], true); err != nil {
				return err
			}
		}
		rights = unix.UnixRights(fds...)
	}
	data = append(data, '\n')
	n, _, err := s.conn.WriteMsgUnix(data, rights, nil)
	if err == nil && n < len(data) {
		_, err = s.conn.Write(data[n:])
	}
	if err != nil {
		return fmt.Errorf("pod-init: %w", err)
	}
	return nil
}

// receive returns the next reply.
// Errors: io.EOF if pod-init is gone; what the reply says.
func (s *session) receive() (reply, error) {
	var r reply
	if err := s.decode.Decode(&r); err != nil {
		if !errors.Is(err, io.EOF) {
			err = errors.Join(io.EOF, err)
		}
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (s *session) close() { s.conn.Close() }

// call asks for one reply.
func call(dir string, r request, files ...*os.File) (reply, error) {
	s, err := open(dir, r, files...)
	if err != nil {
		return reply{}, err
	}
	defer s.close()
	return s.receive()
}

// accept reads the request of a connection. The files are the caller's now.
func accept(conn *net.UnixConn) (r request, rest *json.Decoder, files []*os.File, err error) {
	data, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(3*4))
	n, m, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return r, nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return r, nil, nil, err
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	rest = json.NewDecoder(io.MultiReader(bytes.NewReader(data[:n]), conn))
	return r, rest, files, rest.Decode(&r)
}
