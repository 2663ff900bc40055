// Command web tells by HTTP who answers and whom: "<host name> <address>".
//
//	web serve        answers on port 80
//	web ask URL      prints what one request gives
//	web watch URL    asks again and again, over a new connection each time, and prints
//	                 "ok <answer>" or "failed <why>", a line each
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	answerTime = 2 * time.Second
	pause      = 20 * time.Millisecond // between two requests of watch
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve(ctx)
	case len(args) == 2 && args[0] == "ask":
		answer, err := ask(ctx, args[1])
		if err == nil {
			fmt.Println(answer)
		}
		return err
	case len(args) == 2 && args[0] == "watch":
		watch(ctx, args[1])
		return nil
	}
	return fmt.Errorf("%q: is no command (serve, ask URL, watch URL)", args)
}

func serve(ctx context.Context) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &http.Server{Addr: ":80", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(w, name, from)
	})}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

func ask(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

func watch(ctx context.Context, url string) {
	for ctx.Err() == nil {
		if answer, err := ask(ctx, url); err == nil {
			fmt.Println("ok", answer)
		} else if ctx.Err() == nil {
			fmt.Println("failed", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
