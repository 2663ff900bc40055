package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/pipeline"
)

// watch prints the connections that begin and end between two looks. It
// remembers a row for each connection that is open.
type watch struct {
	*flowsCommand
	filter *picky
	json   bool
	known  map[flowID]*watched
	look   uint64 // number of the present one
	names  named
}

// watched is what is remembered of a connection.
type watched struct {
	row   flowRow
	look  uint64 // when it was seen last
	ended bool   // and printed so
}

// flowEvent is one line of --watch for programs.
type flowEvent struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"` // began, ended
	flowRow
}

// run looks again and again until ctx ends or the lab is gone.
func (w *watch) run(ctx context.Context, hosts []lab.Observed) error {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		if err := w.once(ctx, hosts); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// once looks at all hosts. The first look prints how many there are.
func (w *watch) once(ctx context.Context, hosts []lab.Observed) error {
	w.look++
	for _, h := range hosts {
		names, err := w.names.of(ctx, h)
		if err == nil && w.look == 1 {
			err = w.filter.known(names)
		}
		if err != nil {
			return err
		}
		var failed error
		err = h.Connections(ctx, func(c *dataplane.Connection) bool {
			failed = w.see(h.Host, c, names)
			return failed == nil
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
	}
	if w.look == 1 && !w.json {
		fmt.Fprintf(w.env.Stderr, "connections now: %d (Ctrl-C ends)\n", len(w.known))
	}
	for id, k := range w.known {
		if k.look == w.look {
			continue
		}
		delete(w.known, id)
		if err := w.end(k); err != nil {
			return err
		}
	}
	return nil
}

// see is told a connection.
func (w *watch) see(host string, c *dataplane.Connection, names *dataplane.Names) error {
	if !w.filter.takes(c, names) {
		return nil
	}
	id := idOf(host, c)
	k := w.known[id]
	if k != nil && seconds(c.Age) < k.row.Age { // the same addresses and ports again
		if err := w.end(k); err != nil {
			return err
		}
		k = nil
	}
	began := k == nil
	if began {
		k = &watched{}
		w.known[id] = k
	}
	k.row, k.look = rowOf(host, c, names), w.look
	if w.look == 1 {
		k.ended = c.State == pipeline.ConnClosing
		return nil
	}
	if began {
		if err := w.print("began", k.row); err != nil {
			return err
		}
	}
	if c.State == pipeline.ConnClosing {
		return w.end(k)
	}
	return nil
}

// end prints that a connection ended, once.
func (w *watch) end(k *watched) error {
	if k.ended {
		return nil
	}
	k.ended = true
	return w.print("ended", k.row)
}

func (w *watch) print(event string, r flowRow) error {
	now := time.Now()
	if w.json {
		return json.NewEncoder(w.env.Stdout).Encode(flowEvent{now.UTC(), event, r})
	}
	mark := map[string]string{"began": "+", "ended": "-"}[event]
	line := fmt.Sprintf("%s %s %s %s → %s", now.Format("15:04:05"), mark, r.Protocol, r.Source, r.Destination)
	if seen := r.seen(); seen != "" {
		line += ", seen as " + seen
	}
	if by := r.by(); by != "" {
		line += ", by " + by
	}
	if rules := r.rules(); rules != "" {
		line += ", rules " + rules
	}
	if event == "ended" {
		line += fmt.Sprintf(", %s, %d packets, %d bytes", r.State, r.packets(), r.bytes())
	}
	return oneLine(w.env.Stdout, line)
}
