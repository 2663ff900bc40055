package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/metrics"
	"github.com/weft-net/weft/table"
)

// maxBody bounds tables, in bytes. A hundred thousand rules take about 50 MB.
const maxBody = 1 << 30

// What the agent serves; docs are at the methods of Client.
const (
	tablesPath = "/v1/tables"
	statusPath = "/v1/status"

	attachmentsPath = "/v1/attachments"

	metricsPath = "/metrics" // docs/metrics.md; by TCP too if wanted
)

// handler answers requests about a.
func handler(a *Agent) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+tablesPath, func(w http.ResponseWriter, r *http.Request) {
		if f := a.control; f != nil {
			http.Error(w, "tables: come from weftd at "+f.c.Address+" (they can not be put)", http.StatusConflict)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		t := &Tables{}
		if err := json.Unmarshal(body, t); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		err = a.Apply(r.Context(), t)
		if _, bad := errors.AsType[*BadTables](err); bad {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		} else {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("GET "+tablesPath, func(w http.ResponseWriter, _ *http.Request) {
		if t := a.InForce(); t != nil {
			answer(w, t)
		} else {
			http.Error(w, "there are no tables yet", http.StatusNotFound)
		}
	})
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) {
		s, err := a.Status(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, s)
	})
	mux.Handle("GET "+metricsPath, metrics.Handler(a.sample))
	handleAttachments(mux, a)
	return mux
}

// serveMetrics serves nothing but metrics at a TCP address until stop is
// called. An empty address: nowhere.
func serveMetrics(ctx context.Context, log *slog.Logger, address string, a *Agent) (stop func() error, err error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, metrics.Handler(a.sample))
	server := newServer(log, mux)
	server.WriteTimeout = time.Minute
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	log.Info("metrics", "address", l.Addr())
	return func() error { return shutdown(server) }, nil
}

func newServer(log *slog.Logger, h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

func answer(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(body, '\n'))
}

// inForceDocument is the JSON form of InForce.
type inForceDocument struct {
	Tables *Tables                         `json:"tables"`
	Health map[table.MemberID]table.Health `json:"health,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (f *InForce) MarshalJSON() ([]byte, error) {
	return json.Marshal(inForceDocument{&Tables{f.Set.WithHealth(nil), f.Devices}, f.Set.Health})
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *InForce) UnmarshalJSON(data []byte) error {
	var d inForceDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	if d.Tables == nil {
		return errors.New("tables: are missing")
	}
	f.Set, f.Devices = d.Tables.Set.WithHealth(d.Health), d.Tables.Devices
	return nil
}

// shutdownTime bounds the wait for requests when the agent ends.
const shutdownTime = 5 * time.Second

// serve answers on a unix socket until ctx ends. A socket that a killed agent
// left is replaced: the caller holds the agent's directory.
func serve(ctx context.Context, log *slog.Logger, socket string, h http.Handler) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	short, done, err := shortened(socket)
	if err != nil {
		return err
	}
	l, err := listenPrivately(short)
	done()
	if err != nil {
		return fmt.Errorf("socket %s: %w", socket, err)
	}
	defer os.Remove(socket)
	server := newServer(log, h)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	log.Info("listening", "socket", socket)
	select {
	case err := <-ended:
		return fmt.Errorf("socket %s: %w", socket, err)
	case <-ctx.Done():
	}
	return shutdown(server)
}

// shutdown waits for requests that are at work.
func shutdown(s *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	return s.Shutdown(ctx)
}

// listenPrivately makes a socket that only this user may connect to.
func listenPrivately(path string) (net.Listener, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // path is not valid for that long
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// shortened returns another name of socket, which is valid until done is
// called: a socket's address has 107 bytes at most (unix(7)), a path may have
// more.
func shortened(socket string) (short string, done func(), err error) {
	fd, err := unix.Open(filepath.Dir(socket), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &fs.PathError{Op: "open", Path: filepath.Dir(socket), Err: err}
	}
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(socket), func() { unix.Close(fd) }, nil
}
