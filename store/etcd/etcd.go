// Package etcd keeps a store in etcd: one in this process with its data in a
// directory, or a cluster elsewhere.
//
// Each policy path is one key below a prefix. Every commit is one transaction
// that also writes the key head, and is made only if head is what the
// committer saw: the version of the store is head's mod revision.
package etcd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/weft-net/weft/store"
)

// KV is a store.KV in etcd.
type KV struct {
	client *clientv3.Client
	prefix string
	server *server // nil: elsewhere
	closed context.Context
	end    context.CancelFunc
	once   sync.Once // of Close
}

var _ store.KV = (*KV)(nil)

// Option changes how Embed and Dial work.
type Option func(*options)

type options struct {
	prefix     string
	noSync     bool
	maxOps     uint
	maxRequest uint
}

func optionsOf(opts []Option) options {
	o := options{prefix: DefaultPrefix, maxOps: maxOps, maxRequest: maxRequest}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// DefaultPrefix is where the keys are, unless Prefix says otherwise.
const DefaultPrefix = "/weft"

// Prefix puts the keys below a prefix, without slash at the end: several
// stores can share an etcd.
func Prefix(p string) Option { return func(o *options) { o.prefix = p } }

// Unsynced is for tests: Embed does not wait for the disk. What was committed
// is lost if the machine fails, not if the process does.
func Unsynced() Option { return func(o *options) { o.noSync = true } }

// Limits sets what Embed takes in one commit: how many writes and how many
// bytes. The default is more than a process should hold.
func Limits(ops, bytes uint) Option {
	return func(o *options) { o.maxOps, o.maxRequest = ops, bytes }
}

// How long a server may be silent until another connection is made.
const (
	dialTimeout      = 5 * time.Second
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// Dial returns the KV in the etcd cluster at endpoints: https://host:port,
// http://host:port or unix:///path. config is for https; nil: the system's
// roots and no certificate. It connects when it is first used, and again
// whenever it must. The cluster compacts its history by itself or has to be
// told to; its limits --max-txn-ops and --max-request-bytes bound a commit.
func Dial(endpoints []string, config *tls.Config, opts ...Option) (*KV, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("etcd: endpoints: are missing (such as https://10.0.0.5:2379)")
	}
	for _, e := range endpoints {
		switch scheme, rest, ok := strings.Cut(e, "://"); {
		case !ok || rest == "" || scheme != "https" && scheme != "http" && scheme != "unix":
			return nil, fmt.Errorf("etcd: endpoints: %q: is not an endpoint (https://HOST:PORT, http://HOST:PORT, unix:///PATH)", e)
		case scheme == "https" && config == nil:
			config = &tls.Config{}
		}
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: config, Logger: zap.NewNop(),
		DialTimeout: dialTimeout, DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout, PermitWithoutStream: true,
		MaxCallSendMsgSize: math.MaxInt32, MaxCallRecvMsgSize: math.MaxInt32,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return newKV(client, optionsOf(opts).prefix), nil
}

func newKV(client *clientv3.Client, prefix string) *KV {
	k := &KV{client: client, prefix: prefix}
	k.closed, k.end = context.WithCancel(context.Background())
	return k
}

// Close ends the connection, and the server if it is in this process; what
// still waits for it gets an error. Closing twice is as once.
func (k *KV) Close() (err error) {
	k.once.Do(func() {
		k.end()
		err = k.client.Close()
		if k.server != nil {
			k.server.close()
		}
	})
	if errors.Is(err, context.Canceled) {
		return nil // the client of a server in this process says so
	}
	return err
}

// Endpoint returns where others reach the server in this process, for Dial;
// empty: they cannot.
func (k *KV) Endpoint() string {
	if k.server == nil {
		return ""
	}
	return k.server.endpoint
}

// Compact forgets the order of the commits up to v.
func (k *KV) Compact(ctx context.Context, v store.Version) error {
	_, err := k.client.Compact(ctx, int64(v))
	return err
}

func (k *KV) head() string { return k.prefix + "/head" }

// objects is the prefix of all policy paths.
func (k *KV) objects() string { return k.prefix + "/infra/" }

// with returns a context that also ends with the KV.
func (k *KV) with(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(k.closed, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

var errClosed = errors.New("etcd: is closed")

// page is how many objects one request reads.
const page = 4096

// Load implements store.KV.
func (k *KV) Load(ctx context.Context) (store.Snapshot, error) {
	ctx, cancel := k.with(ctx)
	defer cancel()
	v, revision, err := k.headAt(ctx)
	if err != nil {
		return store.Snapshot{}, err
	}
	s := store.Snapshot{Version: v}
	end := clientv3.GetPrefixRangeEnd(k.objects())
	for from := k.objects(); ; {
		resp, err := k.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(page))
		if err != nil {
			return store.Snapshot{}, k.failed(ctx, err)
		}
		for _, kv := range resp.Kvs {
			s.Entries = append(s.Entries, store.Entry{
				Path: string(kv.Key[len(k.prefix):]), Value: kv.Value, Version: store.Version(kv.ModRevision),
			})
		}
		if !resp.More {
			return s, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Head implements store.KV.
func (k *KV) Head(ctx context.Context) (store.Version, error) {
	ctx, cancel := k.with(ctx)
	defer cancel()
	v, _, err := k.headAt(ctx)
	return v, err
}

// headAt returns the newest version, and the revision of etcd at which it is
// that.
func (k *KV) headAt(ctx context.Context) (store.Version, int64, error) {
	resp, err := k.client.Get(ctx, k.head())
	if err != nil {
		return 0, 0, k.failed(ctx, err)
	}
	if len(resp.Kvs) == 0 {
		return 0, resp.Header.Revision, nil
	}
	return store.Version(resp.Kvs[0].ModRevision), resp.Header.Revision, nil
}

// failed adds to an error which server it came from.
func (k *KV) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if k.server != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return fmt.Errorf("etcd %s: %w", strings.Join(k.client.Endpoints(), ","), err)
}

// The pauses between attempts.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// pause waits; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Commit implements store.KV. A server that does not answer is asked again
// until ctx ends: what head then has tells whether an earlier attempt was made.
func (k *KV) Commit(ctx context.Context, head store.Version, writes []store.Write) (store.Version, error) {
	ctx, cancel := k.with(ctx)
	defer cancel()
	token := rand.Text()
	ops := []clientv3.Op{clientv3.OpPut(k.head(), token)}
	size := 0
	for _, w := range writes {
		size += len(w.Path) + len(w.Value)
		if w.Value == nil {
			ops = append(ops, clientv3.OpDelete(k.prefix+w.Path))
			continue
		}
		ops = append(ops, clientv3.OpPut(k.prefix+w.Path, string(w.Value)))
	}
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		resp, err := k.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(k.head()), "=", int64(head))).
			Then(ops...).
			Else(clientv3.OpGet(k.head())).
			Commit()
		switch {
		case err == nil && resp.Succeeded:
			return store.Version(resp.Header.Revision), nil
		case err == nil:
			if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 && string(kvs[0].Value) == token {
				return store.Version(kvs[0].ModRevision), nil
			}
			return 0, store.ErrStale
		case !passing(err):
			return 0, k.failed(ctx, explained(err, len(ops), size))
		case !pause(ctx, wait):
			return 0, k.failed(ctx, err)
		}
	}
}

// passing reports whether an error may be gone the next time.
func passing(err error) bool {
	e, ok := errors.AsType[rpctypes.EtcdError](rpctypes.Error(err))
	if !ok {
		return false // of this side
	}
	switch e.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Internal, codes.Canceled, codes.Unknown:
		return true
	}
	return errors.Is(e, rpctypes.ErrTooManyRequests)
}

// explained says what to do about a commit that the server does not take.
func explained(err error, ops, size int) error {
	e := rpctypes.Error(err)
	switch {
	case errors.Is(e, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%d writes: are more than the server takes at once (set --max-txn-ops to at least %d, or commit less at once)", ops, ops)
	case errors.Is(e, rpctypes.ErrRequestTooLarge) || strings.Contains(err.Error(), "message larger than max"): // the latter is gRPC's
		return fmt.Errorf("%d bytes: are more than the server takes at once (set --max-request-bytes to at least %d, or commit less at once)", size, 2*size)
	case errors.Is(e, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w (compact, defragment and disarm the alarm, or raise --quota-backend-bytes)", err)
	}
	return err
}
