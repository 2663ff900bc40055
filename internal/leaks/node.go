package leaks

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// device is how devices are called that the agent makes for attachments.
var device = regexp.MustCompile(`^weft[0-9a-f]{11}$`)

// ports follows every port: store, attachment, record, device, namespace, pod.
func (c *check) ports() {
	attachments, pods := map[string]string{}, map[string]*Object{}
	for _, o := range c.Intent {
		if p, ok := o.(*intent.SegmentPort); ok && p.AttachmentID() != "" {
			attachments[p.AttachmentID()] = p.Path
		}
	}
	for i := range c.Live {
		if o := &c.Live[i]; o.Kind == "Pod" {
			pods[o.Metadata.UID] = o
		}
	}
	devices, records, made := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, a := range c.Attached {
		made[a.ID], devices[a.Device], records[a.Device+".json"] = true, true, true
		at := "attachment " + a.AttachmentKey.String()
		if path := attachments[a.ID]; path != a.Port {
			c.add(at, "port", "%s: is not the one that the store has for %s (%q)", a.Port, a.ID, path)
		}
		if why := c.Broken[a.AttachmentKey]; why != "" {
			c.add(at, "", "%s", why)
		}
		if space := filepath.Base(a.NetNS); !slices.Contains(c.Spaces, space) {
			c.add(at, "netns", "%s: does not exist", a.NetNS)
		}
		if o := pods[a.ID]; strings.HasPrefix(filepath.Base(a.NetNS), c.Lab.Pods) && (o == nil || o.Spec.HostNetwork) {
			c.add(at, "pod", "%s: does not exist (UID %s)", a.Pod, a.ID)
		}
	}
	for uid, o := range pods {
		if o.Status.Phase == "Running" && !o.Spec.HostNetwork && !o.leaves() && !made[uid] {
			c.add(o.name(), "", "runs, but has no attachment")
		}
	}
	for _, d := range c.Devices {
		if device.MatchString(d) && !devices[d] {
			c.add("device "+d, "", "belongs to no attachment")
		}
	}
	for _, r := range c.Records {
		if !records[r] {
			c.add(filepath.Join(c.Lab.AgentDir, "attachments", r), "", "belongs to no attachment")
		}
	}
	c.devices(devices)
}

// devices finds devices of the host that are neither attachments' nor in the
// tables.
func (c *check) devices(attached map[string]bool) {
	known := maps.Clone(attached)
	known["lo"] = true
	for _, u := range c.Lab.Uplinks {
		known[u] = true
	}
	if c.InForce != nil {
		for _, d := range c.InForce.Devices {
			known[d] = true
		}
	}
	for _, d := range c.Devices {
		if !known[d] && !device.MatchString(d) {
			c.add("device "+d, "", "is in namespace %s, but no port has it", c.Lab.Host)
		}
	}
	for d := range known {
		if !slices.Contains(c.Devices, d) {
			c.add("device "+d, "", "is not in namespace %s", c.Lab.Host)
		}
	}
}

// namespaces finds network namespaces, directories and mounts that nobody needs.
func (c *check) namespaces() {
	used, uids := map[string]bool{}, map[string]bool{}
	for _, a := range c.Attached {
		used[filepath.Base(a.NetNS)] = true
	}
	for i := range c.Live {
		if c.Live[i].Kind == "Pod" {
			uids[c.Live[i].Metadata.UID] = true
		}
	}
	for _, s := range c.Spaces {
		if !used[s] && !slices.Contains(c.Lab.Namespaces, s) {
			c.add("network namespace "+s, "", "has no attachment, so no pod needs it")
		}
	}
	for _, s := range c.Lab.Namespaces {
		if !slices.Contains(c.Spaces, s) {
			c.add("network namespace "+s, "", "does not exist")
		}
	}
	for _, uid := range c.PodDirs {
		if !uids[uid] {
			c.add("pod "+uid, "directory", "is of a pod that does not exist")
		}
	}
	for _, m := range c.Mounts {
		c.add("mount "+m, "", "is in the machine's namespace (pods have theirs)")
	}
}

// tables holds what is in force against what was compiled.
func (c *check) tables() {
	if c.Weftd.Compiled != c.Weftd.Version {
		c.add("weftd", "compiled", "is version %d of %d", c.Weftd.Compiled, c.Weftd.Version)
	}
	for _, p := range c.Weftd.Problems {
		c.add("weftd", "problems", "%s", p)
	}
	for _, n := range c.Weftd.Nodes {
		if !n.Connected || n.Error != "" || n.Version != c.Weftd.Version {
			c.add("node "+n.Name, "version", "has %d of %d in force: connected %t %s", n.Version, c.Weftd.Version, n.Connected, n.Error)
		}
	}
	if c.Kernel != "" {
		c.add("kernel", "tables", "%s", c.Kernel)
	}
	if c.InForce == nil || c.InForce.Set == nil {
		c.add("agent", "tables", "has none")
		return
	}
	node := c.InForce.Set.Node
	compiled := c.Compiled[node]
	if compiled == nil {
		c.add("node "+node, "tables", "weftd has none")
		return
	}
	if d := table.Diff(compiled, c.InForce.Set.WithHealth(nil)); d.Len() > 0 {
		c.add("node "+node, "tables", "%d rows are not as weftd compiled them", d.Len())
	}
	for _, w := range c.Agent.Conditions {
		if w.Status && slices.Contains([]string{agent.NotRealized, agent.DeviceMissing, agent.NotConnected, agent.NoPort, agent.InterfaceDiffers}, w.Type) {
			c.add("node "+node, "condition "+w.Type, "%s: %s", w.Object, w.Message)
		}
	}
}

// processes finds parts that ended, and processes that nobody needs any more.
func (c *check) processes() {
	needed := map[string]int{}
	for _, p := range c.Lab.Parts {
		needed[p.Log] = p.PID
		if p.PID == 0 {
			c.add(p.Name, "", "has ended (weft lab up starts it again)")
		}
	}
	uids := map[string]bool{}
	for i := range c.Live {
		uids[c.Live[i].Metadata.UID] = true
	}
	for file, pids := range c.Logged {
		for _, pid := range pids {
			if slices.Contains(pids, c.Parents[pid]) || needed[file] == pid {
				continue // a child of one that is looked at, or a part
			}
			if _, is := needed[file]; is {
				c.add(filepath.Base(file), "process", "%d: is not the one that the lab started", pid)
			}
			if dir := filepath.Dir(file); slices.Contains(c.Lab.Nodes, filepath.Dir(dir)) && !uids[filepath.Base(dir)] {
				c.add("pod "+filepath.Base(dir), "process", "%d: is of a pod that does not exist", pid)
			}
		}
	}
}
