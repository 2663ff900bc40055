package kubelet

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// Bounds of the node's server.
const (
	maxStreams     = 256 // requests at once
	streamIdleTime = 4 * time.Hour
	streamTime     = 30 * time.Second // until a client made its streams
)

// server answers the API server: logs, exec, attach and port-forward.
type server struct {
	kubelet  *Kubelet
	listener net.Listener
	tls      *tls.Config
	slots    chan struct{}
}

// newServer opens the node's port. Only a client with a certificate of the
// cluster's authority and the right name is heard.
func (k *Kubelet) newServer() (*server, error) {
	pool, err := authorities(k.config.API)
	if err != nil {
		return nil, err
	}
	certificate, err := selfSigned(k.config.Name, k.config.Listen.Addr().AsSlice())
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", k.config.Listen.String())
	if err != nil {
		return nil, err
	}
	caller := k.config.Caller
	return &server{k, l, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert,
		NextProtos: []string{"http/1.1"}, // streams take the connection over
		VerifyConnection: func(c tls.ConnectionState) error {
			if name := c.PeerCertificates[0].Subject.CommonName; name != caller {
				return fmt.Errorf("client %q: may not call this node (%s)", name, caller)
			}
			return nil
		},
	}, make(chan struct{}, maxStreams)}, nil
}

// authorities returns who vouches for the API server, which the same vouches for
// as a client.
func authorities(c *rest.Config) (*x509.CertPool, error) {
	c = rest.CopyConfig(c)
	if err := rest.LoadTLSFiles(c); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CAData) {
		return nil, errors.New("kubeconfig: certificate-authority: is missing (the cluster's)")
	}
	return pool, nil
}

// selfSigned returns a certificate that nobody vouches for: the API server does
// not ask.
func selfSigned(name string, ip net.IP) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{ip},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (s *server) port() int32 { return int32(s.listener.Addr().(*net.TCPAddr).Port) }

// serve answers until ctx ends.
func (s *server) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.bounded(s.logs))
	for _, at := range []string{"/{namespace}/{pod}/{container}", "/{namespace}/{pod}/{uid}/{container}"} {
		mux.HandleFunc("/exec"+at, s.bounded(s.exec))
		mux.HandleFunc("/attach"+at, s.bounded(s.attach))
	}
	mux.HandleFunc("/portForward/{namespace}/{pod}", s.bounded(s.forward))
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", s.bounded(s.forward))
	h := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    log.New(io.Discard, "", 0), // of handshakes of whoever calls
	}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	err := h.Serve(tls.NewListener(s.listener, s.tls))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// bounded answers no more than maxStreams requests at once.
func (s *server) bounded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			h(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "node "+s.kubelet.config.Name+": too many requests at once", http.StatusTooManyRequests)
		}
	}
}

// pod returns the pod that a request is about, or answers that there is none.
func (s *server) pod(w http.ResponseWriter, r *http.Request) *view {
	v, err := s.kubelet.find(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("uid"))
	if err == nil && r.PathValue("container") != "" {
		if _, ok := v.streams[r.PathValue("container")]; !ok {
			err = fmt.Errorf("container %s: is not in pod %s/%s", r.PathValue("container"), r.PathValue("namespace"), r.PathValue("pod"))
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return nil
	}
	return v
}

func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	v := s.pod(w, r)
	if v == nil {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w, r = noticed(w, r)
	remotecommand.ServeExec(w, r, runner{v}, r.PathValue("pod"), v.uid, r.PathValue("container"), r.URL.Query()["command"], options,
		streamIdleTime, streamTime, remotecommand.SupportedStreamingProtocols)
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	v := s.pod(w, r)
	if v == nil {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w, r = noticed(w, r)
	remotecommand.ServeAttach(w, r, runner{v}, r.PathValue("pod"), v.uid, r.PathValue("container"), options,
		streamIdleTime, streamTime, remotecommand.SupportedStreamingProtocols)
}

func (s *server) forward(w http.ResponseWriter, r *http.Request) {
	v := s.pod(w, r)
	if v == nil {
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w, r = noticed(w, r)
	portforward.ServePortForward(w, r, runner{v}, r.PathValue("pod"), v.uid, options, streamIdleTime, streamTime, portforward.SupportedProtocols)
}

// noticed returns a request whose context ends with its connection, also when
// that is taken over for streams.
func noticed(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	return &taken{w, cancel}, r.WithContext(ctx)
}

// taken is a response whose connection may be taken over.
type taken struct {
	http.ResponseWriter
	gone context.CancelFunc
}

// Hijack takes the connection over.
func (t *taken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early := io.LimitReader(rw.Reader, int64(rw.Reader.Buffered()))
	watched := &watchedConn{conn, t.gone}
	return watched, bufio.NewReadWriter(bufio.NewReader(io.MultiReader(early, watched)), rw.Writer), nil
}

// watchedConn tells when nothing more can be read, or nobody wants to.
type watchedConn struct {
	net.Conn
	gone context.CancelFunc
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.gone()
	}
	return n, err
}

func (c *watchedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

// runner does in one pod what streams ask for.
type runner struct{ pod *view }

// exitError is an exit code that is not 0, as remotecommand knows it.
type exitError int

func (e exitError) Error() string   { return "exit code " + strconv.Itoa(int(e)) }
func (e exitError) String() string  { return e.Error() }
func (e exitError) Exited() bool    { return true }
func (e exitError) ExitStatus() int { return int(e) }

// ExecInContainer runs a program in a container.
func (r runner) ExecInContainer(ctx context.Context, _, _, container string, cmd []string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	code, failure := execIn(ctx, r.pod.dir, container, cmd, tty, r.streams(ctx, in, out, err, resize))
	if failure != nil {
		return failure
	}
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// AttachContainer shows a container's streams.
func (r runner) AttachContainer(ctx context.Context, _, _, container string, in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	c := r.pod.streams[container]
	if in != nil && !c.Stdin {
		in = nil // as if it were closed
	}
	return attachTo(ctx, r.pod.dir, container, r.streams(ctx, in, out, err, resize))
}

// streams returns what a client has; a stream that it has not is a nil of a
// concrete type.
func (r runner) streams(ctx context.Context, in io.Reader, out, err io.WriteCloser, resize <-chan remotecommand.TerminalSize) streams {
	s := streams{stdin: in}
	if out != nil {
		s.stdout = out
	}
	if err != nil {
		s.stderr = err
	}
	if resize != nil {
		sizes := make(chan size)
		go func() {
			defer close(sizes)
			for z := range resize {
				select {
				case sizes <- size{z.Height, z.Width}:
				case <-ctx.Done():
					return
				}
			}
		}()
		s.sizes = sizes
	}
	return s
}

// PortForward carries a connection to a port of the pod's loopback.
func (r runner) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	t := target{netns: r.pod.netns, container: &corev1.Container{}}
	conn, err := t.dial(limit, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		io.Copy(conn, stream)
		conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}
