package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-net/weft/internal/process"
)

// record is what is kept on disk of a pod, before it is so: what a killed
// weft-node made can be found and taken away.
type record struct {
	UID        string                      `json:"uid"`
	Namespace  string                      `json:"namespace"`
	Name       string                      `json:"name"`
	Sandbox    *sandbox                    `json:"sandbox,omitempty"` // nil: none
	Containers map[string]*containerRecord `json:"containers"`
}

// containerRecord is the past of a container.
type containerRecord struct {
	Runs   int    `json:"runs"`             // how often it was started
	Box    string `json:"box,omitempty"`    // ID of the sandbox of the newest run
	Now    *state `json:"now,omitempty"`    // the newest run
	Last   *state `json:"last,omitempty"`   // the one before, which ended
	Streak int    `json:"streak,omitempty"` // how many runs ended soon, one after the other
}

// running says whether the newest run goes on.
func (c *containerRecord) running() bool { return c.Now != nil && c.Now.Running }

// end notes that the newest run ended as s says.
func (c *containerRecord) end(s state) {
	c.Now = &s
	if s.Finished.Sub(s.Started) >= longRun {
		c.Streak = 0
	}
	c.Streak++
}

// longRun is how long a container must have run for its restart to wait no
// longer than the first one.
const longRun = 10 * time.Minute

// restarts is what people call the restart count.
func (c *containerRecord) restarts() int { return max(0, c.Runs-1) }

// sandbox is the namespaces of a pod.
type sandbox struct {
	ID       string    `json:"id"`              // CNI's container ID
	Netns    string    `json:"netns,omitempty"` // its name; empty: the machine's network
	Attached bool      `json:"attached"`        // CNI ADD was asked for
	IPs      []string  `json:"ips,omitempty"`   // CNI's result, the first one first
	PID      int       `json:"pid,omitempty"`   // of pod-init; 0: not started
	Start    uint64    `json:"start,omitempty"` // clock ticks since boot, proc(5)
	Created  time.Time `json:"created"`
}

// alive says whether the pod's first process runs.
func (s *sandbox) alive() bool {
	if s == nil || s.PID == 0 {
		return false
	}
	return process.Alive(s.PID, s.Start)
}

const recordName = "pod.json"

// loadRecord returns what is kept in a pod's directory.
// Errors: fs.ErrNotExist if there is none.
func loadRecord(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, recordName), err)
	}
	if r.Containers == nil {
		r.Containers = map[string]*containerRecord{}
	}
	return r, nil
}

func (r *record) save(dir string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, recordName), data)
}

// begin notes that a container starts anew in the sandbox, and returns the
// number of the run.
func (r *record) begin(name string) int {
	c := r.container(name)
	if c.Now != nil {
		c.Last = c.Now
	}
	c.Runs, c.Box = c.Runs+1, r.Sandbox.ID
	c.Now = &state{ID: runID(r.UID, name, c.Runs), Running: true, Started: time.Now()}
	return c.Runs
}

// runID names a run of a container for ever.
func runID(uid, container string, n int) string { return fmt.Sprintf("%s-%s-%d", uid, container, n) }

// container returns the past of a container, empty if there is none.
func (r *record) container(name string) *containerRecord {
	if r.Containers[name] == nil {
		r.Containers[name] = new(containerRecord)
	}
	return r.Containers[name]
}

// replaceFile writes a file as a whole.
func replaceFile(path string, data []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// records returns what is kept of all pods below dir, by the name of their
// directory. A directory without a record was never used: it is removed.
func records(dir string) (map[string]*record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]*record{}
	for _, e := range entries {
		r, err := loadRecord(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		out[e.Name()] = r
	}
	return out, nil
}
