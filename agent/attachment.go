package agent

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// AttachmentKey names an attachment, as CNI does.
type AttachmentKey struct {
	Container string `json:"container"`
	Interface string `json:"interface"` // its name in the pod
}

func (k AttachmentKey) String() string { return k.Container + "/" + k.Interface }

func (k AttachmentKey) compare(o AttachmentKey) int {
	return cmp.Or(strings.Compare(k.Container, o.Container), strings.Compare(k.Interface, o.Interface))
}

// devicePrefix is how the names of all devices begin that the agent makes for
// attachments. Whatever has such a name is the agent's.
const devicePrefix = "weft"

var deviceName = regexp.MustCompile(`^` + devicePrefix + `[0-9a-f]{11}$`)

// device returns the name of the outer end, in the node's namespace: 15 bytes,
// which is as many as there may be (linux/if.h, IFNAMSIZ). The inner end has it
// as its alias.
func (k AttachmentKey) device() string {
	sum := sha256.Sum256([]byte(k.String()))
	return devicePrefix + hex.EncodeToString(sum[:])[:11]
}

// Attachment is an interface that a pod shall have.
type Attachment struct {
	AttachmentKey
	ID      string `json:"id"`                // attachment id of its port: the pod's UID
	Pod     string `json:"pod,omitempty"`     // namespace/name, for people
	Network string `json:"network,omitempty"` // name of the CNI network: see Client.KeepAttachments
	NetNS   string `json:"netns"`             // file that stands for the pod's network namespace
	MTU     int    `json:"mtu,omitempty"`     // bytes, IP packet; 0: 1500
}

// Attached is an attachment that is made.
type Attached struct {
	Attachment
	Port   string `json:"port"`   // policy path
	Device string `json:"device"` // outer end of the veth pair, in the node's namespace
	NIC    NIC    `json:"nic"`    // inner end, as it was configured
}

func (w *Attached) equal(o *Attached) bool {
	return w.Attachment == o.Attachment && w.Port == o.Port && w.Device == o.Device && w.NIC.equal(&o.NIC)
}

// Bounds of an MTU. Source: RFC 8200 section 5 asks for more with IPv6; a veth
// device takes no more.
const (
	defaultMTU = 1500
	leastMTU   = 576
	mostMTU    = 65535
)

// DefaultAttachTime is how long an attachment waits for its port.
const DefaultAttachTime = 30 * time.Second

var (
	containerID   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	interfaceName = regexp.MustCompile(`^[^/:\s]{1,15}$`)
)

// check says what is wrong with k. Source: CNI specification, section 2.
func (k AttachmentKey) check() error {
	if !containerID.MatchString(k.Container) {
		return refuse(Malformed, "container id %q: is not a name (letters, digits, _ . -)", k.Container)
	}
	if !interfaceName.MatchString(k.Interface) || k.Interface == "." || k.Interface == ".." {
		return refuse(Malformed, "interface %q: is not a device name (at most 15 characters, none of / : and space)", k.Interface)
	}
	return nil
}

// check says what is wrong with q by itself.
func (q *Attachment) check() error {
	if err := q.AttachmentKey.check(); err != nil {
		return err
	}
	switch {
	case q.ID == "":
		return refuse(Malformed, "%s: attachment id: is missing (the pod's UID)", q)
	case !filepath.IsAbs(q.NetNS):
		return refuse(Malformed, "%s: netns %q: is no path (such as /run/netns/cni-1)", q, q.NetNS)
	case q.MTU != 0 && (q.MTU < leastMTU || q.MTU > mostMTU):
		return refuse(Malformed, "%s: mtu %d: is out of range (%d to %d; 0: %d)", q, q.MTU, leastMTU, mostMTU, defaultMTU)
	}
	return nil
}

// String names q for people.
func (q *Attachment) String() string {
	return "pod " + cmp.Or(q.Pod, q.ID)
}

// Why says why an attachment was refused. The words are stable.
type Why string

// Reasons to refuse an attachment.
const (
	Malformed      Why = "Malformed"      // the request is wrong
	NoTables       Why = "NoTables"       // the agent got none yet
	PortMissing    Why = "PortMissing"    // the tables in force have no such port
	PortIncomplete Why = "PortIncomplete" // a port without an address, or not one for a pod
	PortTaken      Why = "PortTaken"      // another attachment has it
	NoNamespace    Why = "NoNamespace"    // the pod's namespace is not there, or is none
	InterfaceTaken Why = "InterfaceTaken" // the pod has a device of that name
	Unknown        Why = "Unknown"        // there is no such attachment
	Differs        Why = "Differs"        // it is not as the tables say
	Interrupted    Why = "Interrupted"    // it was taken away meanwhile, or the agent ends
	Failed         Why = "Failed"         // the kernel or the data plane refuses
)

// Refusal is the error of an attachment.
type Refusal struct {
	Why     Why    `json:"why"`
	Message string `json:"message"`
}

func (r *Refusal) Error() string { return r.Message }

func refuse(why Why, format string, args ...any) *Refusal {
	return &Refusal{why, fmt.Sprintf(format, args...)}
}
