package kubelet

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"
)

// drainTime is how long output is waited for after a program ended: something
// that it left may hold the other end.
const drainTime = time.Second

// size is that of a terminal.
type size struct{ rows, columns uint16 }

// streams is what a program or its viewer has. Nil ones are not wanted.
type streams struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	sizes          <-chan size // of the terminal; closed or nil: it does not change
}

// execIn runs a program in a container of the pod in dir and returns its exit
// code. It is killed when ctx ends.
// Errors: the container does not run; the program can not be started.
func execIn(ctx context.Context, dir, container string, args []string, tty bool, s streams) (int, error) {
	r := request{Op: opExec, Container: container, Args: args, TTY: tty}
	if tty {
		return execTerminal(ctx, dir, r, s)
	}
	p, err := newPipes(s)
	if err != nil {
		return 0, err
	}
	defer p.close()
	sess, err := open(dir, r, p.child...)
	p.closeChild()
	if err != nil {
		return 0, err
	}
	defer sess.close()
	p.copy(s)
	answer, err := sess.await(ctx)
	p.drain()
	return answer.Exit, err
}

// await returns the reply, or the reason why ctx ended.
func (s *session) await(ctx context.Context) (reply, error) {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	answer, err := s.receive()
	if ctx.Err() != nil {
		return answer, context.Cause(ctx)
	}
	return answer, err
}

// execTerminal runs r on a terminal.
func execTerminal(ctx context.Context, dir string, r request, s streams) (int, error) {
	master, slave, err := pty.Open()
	if err != nil {
		return 0, err
	}
	defer master.Close()
	select {
	case first := <-s.sizes: // before the program asks
		pty.Setsize(master, &pty.Winsize{Rows: first.rows, Cols: first.columns})
	case <-time.After(100 * time.Millisecond):
	}
	sess, err := open(dir, r, slave)
	slave.Close()
	if err != nil {
		return 0, err
	}
	defer sess.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.stdout != nil {
			io.Copy(s.stdout, master) // ends with EIO
		}
	}()
	if s.stdin != nil {
		go io.Copy(master, s.stdin)
	}
	finished := make(chan struct{})
	defer close(finished)
	go follow(s.sizes, finished, func(z size) {
		pty.Setsize(master, &pty.Winsize{Rows: z.rows, Cols: z.columns})
	})
	answer, err := sess.await(ctx)
	select {
	case <-done:
	case <-time.After(drainTime):
	}
	return answer.Exit, err
}

// follow calls fn with every size until finished is closed.
func follow(sizes <-chan size, finished <-chan struct{}, fn func(size)) {
	for {
		select {
		case z, ok := <-sizes:
			if !ok {
				return
			}
			fn(z)
		case <-finished:
			return
		}
	}
}

// attachTo shows a container's output, and gives it input, until it ends or ctx
// does.
func attachTo(ctx context.Context, dir, container string, s streams) error {
	p, err := newPipes(s)
	if err != nil {
		return err
	}
	defer p.close()
	sess, err := open(dir, request{Op: opAttach, Container: container}, p.child...)
	p.closeChild()
	if err != nil {
		return err
	}
	defer sess.close()
	p.copy(s)
	finished := make(chan struct{})
	defer close(finished)
	go follow(s.sizes, finished, func(z size) {
		sess.send(request{Op: opResize, Rows: z.rows, Columns: z.columns})
	})
	_, err = sess.await(ctx)
	p.drain()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// pipes are the stdio of a program and our ends of it.
type pipes struct {
	child        []*os.File // 0, 1, 2 of the program
	in, out, err *os.File
	copies       sync.WaitGroup
}

func newPipes(s streams) (_ *pipes, err error) {
	p := new(pipes)
	defer func() {
		if err != nil {
			p.closeChild()
			p.close()
		}
	}()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	p.child = []*os.File{null, null, null}
	if s.stdin != nil {
		if p.child[0], p.in, err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	if s.stdout != nil {
		if p.out, p.child[1], err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	if s.stderr != nil {
		if p.err, p.child[2], err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// copy carries what the program reads and writes. Whoever gives the input may
// do so for longer than the program lives: nobody waits for that.
func (p *pipes) copy(s streams) {
	if p.in != nil {
		go func() {
			io.Copy(p.in, s.stdin)
			p.in.Close()
		}()
	}
	if p.out != nil {
		p.copies.Go(func() { io.Copy(s.stdout, p.out) })
	}
	if p.err != nil {
		p.copies.Go(func() { io.Copy(s.stderr, p.err) })
	}
}

// drain returns when all output was carried.
func (p *pipes) drain() {
	done := make(chan struct{})
	go func() {
		p.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainTime):
	}
}

func (p *pipes) closeChild() {
	for _, f := range p.child {
		if f != nil {
			f.Close()
		}
	}
}

func (p *pipes) close() {
	for _, f := range []*os.File{p.in, p.out, p.err} {
		if f != nil {
			f.Close()
		}
	}
}
