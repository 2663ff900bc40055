package scale

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/internal/netns"
)

// probePort is where packets go.
const probePort = 9999

// probes is packets, one a millisecond, from one pod to another, and which of
// them came.
type probes struct {
	from, to net.Conn
	stop     chan struct{}
	running  sync.WaitGroup

	mu   sync.Mutex
	sent []time.Time
	came map[uint32]bool
}

// measurePackets lets one pod send to another while policies come that forbid
// it, and go.
func (r *rig) measurePackets(ctx context.Context, rep *Report) (err error) {
	var pair []*machine
	for _, name := range []string{"probe-from", "probe-to"} {
		m, err := r.machine(namespaceName(0), name, map[string]string{"probe": name})
		if err != nil {
			return err
		}
		if _, _, err := r.run(ctx, m); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.remove(context.WithoutCancel(ctx), m)) }()
		pair = append(pair, m)
	}
	p, err := newProbes(pair[0], pair[1])
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := p.await(ctx, time.Now(), true); err != nil {
		return fmt.Errorf("before there is a policy: %w", err)
	}
	policies := r.kube.NetworkingV1().NetworkPolicies(namespaceName(0))
	for n := range r.c.Flips {
		name := fmt.Sprintf("probe-%03d", n)
		start := time.Now()
		if _, err := policies.Create(ctx, isolated(namespaceName(0), name, "probe", "probe-to"), created); err != nil {
			return err
		}
		at, err := p.await(ctx, start, false)
		if err != nil {
			return err
		}
		rep.add(packetStopped, at)
		start = time.Now()
		if err := policies.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		if at, err = p.await(ctx, start, true); err != nil {
			return err
		}
		rep.add(packetPasses, at)
	}
	return nil
}

func newProbes(from, to *machine) (*probes, error) {
	p := &probes{stop: make(chan struct{}), came: map[uint32]bool{}}
	there := &net.UDPAddr{IP: to.addr.AsSlice(), Port: probePort}
	inside := func(n *netns.Namespace, conn *net.Conn, open func() (net.Conn, error)) error {
		return n.Do(func() (err error) { *conn, err = open(); return err })
	}
	err := inside(to.ns, &p.to, func() (net.Conn, error) { return net.ListenUDP("udp4", there) })
	if err != nil {
		return nil, err
	}
	if err := inside(from.ns, &p.from, func() (net.Conn, error) { return net.DialUDP("udp4", nil, there) }); err != nil {
		return nil, errors.Join(err, p.to.Close())
	}
	p.running.Go(p.send)
	p.running.Go(p.receive)
	return p, nil
}

func (p *probes) close() {
	close(p.stop)
	p.from.Close()
	p.to.Close()
	p.running.Wait()
}

func (p *probes) send() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		n := uint32(len(p.sent))
		p.sent = append(p.sent, time.Now())
		p.mu.Unlock()
		p.from.Write(binary.BigEndian.AppendUint32(nil, n)) // a packet that is refused did not come
	}
}

func (p *probes) receive() {
	data := make([]byte, 16)
	for {
		n, err := p.to.Read(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && n == 4 {
			p.mu.Lock()
			p.came[binary.BigEndian.Uint32(data)] = true
			p.mu.Unlock()
		}
	}
}

// sure is how long packets must all come, or none, before that is believed.
const sure = 100 * time.Millisecond

// await waits until packets come, or do not, and returns how long after start
// the first of those was sent.
func (p *probes) await(ctx context.Context, start time.Time, come bool) (time.Duration, error) {
	for deadline := start.Add(sampleTime); time.Now().Before(deadline); {
		if first, ok := p.first(time.Now(), come); ok && first.After(start) {
			return first.Sub(start), nil
		}
		select {
		case <-time.After(sure / 4):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	word := map[bool]string{true: "do not come", false: "still come"}[come]
	return 0, fmt.Errorf("packets %s after %s", word, sampleTime)
}

// first returns when the first of the newest packets that all came, or all did
// not, was sent. What is on its way is left out.
func (p *probes) first(now time.Time, came bool) (at time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := time.Time{}
	for i := len(p.sent) - 1; i >= 0; i-- {
		if now.Sub(p.sent[i]) < sure/2 {
			continue
		}
		if p.came[uint32(i)] != came {
			break
		}
		if last.IsZero() {
			last = p.sent[i]
		}
		at = p.sent[i]
	}
	return at, !at.IsZero() && last.Sub(at) > sure
}
