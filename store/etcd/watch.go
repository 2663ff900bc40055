package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weft-net/weft/store"
)

// Watch implements store.KV. Lost connections and servers are outlived.
func (k *KV) Watch(ctx context.Context, after store.Version) iter.Seq2[store.Batch, error] {
	return func(yield func(store.Batch, error) bool) {
		ctx, cancel := k.with(ctx)
		defer cancel()
		w := &watch{k: k, after: after, yield: yield}
		for wait := firstPause; ; wait = min(2*wait, lastPause) {
			at := w.after
			err := w.begin(ctx)
			if err == nil {
				err = w.follow(ctx)
			}
			switch {
			case errors.Is(err, errEnough) || ctx.Err() != nil:
				return
			case errors.Is(err, store.ErrCompacted) || errors.Is(err, errWiped):
				yield(store.Batch{}, err)
				return
			}
			if w.after > at {
				wait = firstPause
			}
			if !pause(ctx, wait) {
				return
			}
		}
	}
}

var (
	errEnough = errors.New("the reader has enough")
	errWiped  = errors.New("the key head was deleted")
)

// watch is one Watch.
type watch struct {
	k     *KV
	after store.Version // the last commit that was told
	next  int64         // the first revision of etcd that was not looked at
	yield func(store.Batch, error) bool
}

// begin finds the revision to watch from. A compaction behind the newest
// commit loses nothing: etcd may have other writers.
func (w *watch) begin(ctx context.Context) error {
	head, revision, err := w.k.headAt(ctx)
	if err != nil {
		return err
	}
	w.next = int64(w.after) + 1
	if head == w.after {
		w.next = revision + 1
	}
	return nil
}

// follow tells commits until the watch breaks.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range w.k.client.Watch(ctx, w.k.prefix+"/", clientv3.WithPrefix(), clientv3.WithRev(w.next), clientv3.WithProgressNotify()) {
		if resp.CompactRevision != 0 || errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			return fmt.Errorf("behind version %d: %w", w.after, store.ErrCompacted)
		}
		if err := resp.Err(); err != nil {
			return err
		}
		if err := w.tell(resp.Events); err != nil {
			return err
		}
	}
	return errors.New("the watch ended")
}

// tell yields the commits of events, which are in the order of revisions and
// have all of a revision or nothing.
func (w *watch) tell(events []*clientv3.Event) error {
	for len(events) > 0 {
		b := store.Batch{Version: store.Version(events[0].Kv.ModRevision)}
		commit, n := false, 0
		for ; n < len(events) && events[n].Kv.ModRevision == int64(b.Version); n++ {
			kv, deleted := events[n].Kv, events[n].Type == clientv3.EventTypeDelete
			switch key := string(kv.Key); {
			case key == w.k.head() && deleted:
				return errWiped
			case key == w.k.head():
				commit = true
			case !strings.HasPrefix(key, w.k.objects()):
			case deleted:
				b.Writes = append(b.Writes, store.Write{Path: key[len(w.k.prefix):]})
			default:
				b.Writes = append(b.Writes, store.Write{Path: key[len(w.k.prefix):], Value: kv.Value})
			}
		}
		events = events[n:]
		if !commit || b.Version <= w.after {
			continue
		}
		if !w.yield(b, nil) {
			return errEnough
		}
		w.after = b.Version
	}
	return nil
}
