package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// startProgress prints on a terminal what is waited for, from the first second
// on; note adds why. stop ends it.
func startProgress(w io.Writer, what string) (note func(string), stop func()) {
	if !isTerminal(w) {
		return func(string) {}, func() {}
	}
	return newProgress(w, what, time.Second)
}

func newProgress(w io.Writer, what string, quiet time.Duration) (note func(string), stop func()) {
	var mu sync.Mutex
	var why string
	shown, ended := false, false
	show := func() { // with mu
		text := what
		if why != "" {
			text += ": " + why
		}
		fmt.Fprintln(w, text+" …")
	}
	timer := time.AfterFunc(quiet, func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			shown = true
			show()
		}
	})
	note = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if why = text; shown && !ended {
			show()
		}
	}
	stop = func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		ended = true
	}
	return note, stop
}
