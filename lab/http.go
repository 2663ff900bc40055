package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// ServeHTTP answers every request on the addresses listen (":80") with the
// address that it came from, until ctx ends or a listener breaks. That
// address is what the far side of a NAT sees. Broken requests are logged to
// w. Time and size of a request are bounded.
func ServeHTTP(ctx context.Context, listen []string, w io.Writer) error {
	server := &http.Server{
		Handler:           http.HandlerFunc(answerRequester),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(w, "", log.LstdFlags),
	}
	defer server.Close()
	ended := make(chan error, len(listen))
	for _, address := range listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		go func() { ended <- server.Serve(l) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

func answerRequester(w http.ResponseWriter, r *http.Request) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Requester IP: %s\n", peer.Addr().Unmap())
}
