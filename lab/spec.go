package lab

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/intent"
)

// Spec is a lab file's Lab document as written: what stands around the
// intent. Addresses and names are checked by NewPlan.
type Spec struct {
	ResourceType   string         `json:"resource_type"` // Lab
	Name           string         `json:"name"`          // see CheckName; empty: default
	Hosts          []HostSpec     `json:"hosts,omitempty"`
	PhysicalRouter *RouterSpec    `json:"physical_router,omitempty"`
	Outside        []OutsideSpec  `json:"outside,omitempty"`
	Workloads      []WorkloadSpec `json:"workloads,omitempty"`
	// Kubernetes starts one on this machine; its objects make the network.
	Kubernetes *KubernetesSpec `json:"kubernetes,omitempty"`
	// Manifests are the files' Kubernetes documents, which are applied once it
	// is up. Not a field of the Lab document.
	Manifests string `json:"-"`
}

// KubernetesSpec is a Kubernetes whose objects the control plane follows.
type KubernetesSpec struct {
	Nodes        []string `json:"nodes,omitempty"`         // that run pods; default node1
	ServiceCIDR  string   `json:"service_cidr,omitempty"`  // default 10.96.0.0/22
	ControlPlane string   `json:"control_plane,omitempty"` // address of the API server for pods; default 10.244.0.2
}

// HostSpec is a machine that runs workloads and a data plane. There is at
// most one; none means one named host1.
type HostSpec struct {
	Name string `json:"name"`
}

// RouterSpec is the router that the Tier-0s' uplinks lead to.
type RouterSpec struct {
	Interfaces []InterfaceSpec `json:"interfaces"`
	Routes     []RouteSpec     `json:"routes,omitempty"`
}

// InterfaceSpec is an interface of the physical router: with Tier0Interface a
// cable to the host that carries that uplink, without it a network of outside
// machines.
type InterfaceSpec struct {
	Name           string `json:"name"`
	Address        string `json:"address"` // 192.168.105.253/24
	Tier0Interface string `json:"tier0_interface,omitempty"`
}

// RouteSpec is a static route of the physical router.
type RouteSpec struct {
	To  string `json:"to"`  // CIDR
	Via string `json:"via"` // an address on one of the interfaces' networks
}

// OutsideSpec is a machine behind the physical router, which is its default
// gateway.
type OutsideSpec struct {
	Name      string   `json:"name"`
	Address   string   `json:"address"`   // with the network's length
	Interface string   `json:"interface"` // of the physical router
	HTTP      []uint16 `json:"http,omitempty"`
}

// WorkloadSpec names the namespace of a segment port. A port that is not
// listed is named by its display name.
type WorkloadSpec struct {
	Name string   `json:"name"`
	Port string   `json:"port"` // policy path
	HTTP []uint16 `json:"http,omitempty"`
}

// DefaultName is the name of a lab whose file gives none.
const DefaultName = "default"

// labName keeps "weft-<lab>-" from being the prefix of another lab's
// namespaces: it has no hyphen.
var labName = regexp.MustCompile(`^[a-z0-9]{1,32}$`)

// CheckName says what is wrong with name as a lab's name.
func CheckName(name string) error {
	if !labName.MatchString(name) {
		return fmt.Errorf("lab %q: name: is not a lab name (1 to 32 lower-case letters and digits)", name)
	}
	return nil
}

// document is one document of a multi-document YAML stream.
type document struct {
	file         string
	line         int    // 1-based, where it begins
	resourceType string // empty: not ours
	apiVersion   string // of a Kubernetes object
	data         []byte // with an empty line for each line before it, so that parsers count right
}

// split cuts a YAML stream into its documents; those without content are left
// out. The problem is the first document that is not YAML.
func split(file string, data []byte) ([]document, []intent.Problem) {
	var docs []document
	for _, d := range splitMarkers(data) {
		d.file = file
		var head *struct {
			ResourceType string `json:"resource_type"`
			APIVersion   string `json:"apiVersion"`
		}
		if err := yaml.Unmarshal(d.data, &head); err != nil {
			return nil, []intent.Problem{d.problem(err)}
		}
		if head == nil {
			continue
		}
		d.resourceType, d.apiVersion = head.ResourceType, head.APIVersion
		docs = append(docs, d)
	}
	return docs, nil
}

// splitMarkers cuts data before the lines that begin with the document marker
// "---". Source: YAML 1.2.2 §9.1.3.
func splitMarkers(data []byte) []document {
	docs := []document{{line: 1}}
	line := 0
	for text := range bytes.Lines(data) {
		line++
		rest, marker := bytes.CutPrefix(text, []byte("---"))
		if marker && (len(rest) == 0 || bytes.ContainsAny(rest[:1], " \t\r\n")) {
			docs = append(docs, document{line: line, data: bytes.Repeat([]byte("\n"), line-1)})
		}
		last := &docs[len(docs)-1]
		last.data = append(last.data, text...)
	}
	return docs
}

// problem places a decoder's error, without the decoder's own preamble.
func (d document) problem(err error) intent.Problem {
	text := err.Error()
	for _, preamble := range []string{
		"error converting YAML to JSON: ", "error unmarshaling JSON: ", "while decoding JSON: ", "json: ", "yaml: ",
	} {
		text = strings.TrimPrefix(text, preamble)
	}
	return intent.Problem{Kind: intent.BadSyntax, Msg: text, File: d.file, Line: d.line}
}

// parseSpec decodes a Lab document; unknown fields are problems.
func parseSpec(d document) (*Spec, []intent.Problem) {
	spec := &Spec{}
	if err := yaml.UnmarshalStrict(d.data, spec); err != nil {
		return nil, []intent.Problem{d.problem(err)}
	}
	if spec.Name == "" {
		spec.Name = DefaultName
	}
	if k := spec.Kubernetes; k != nil {
		if len(k.Nodes) == 0 {
			k.Nodes = []string{"node1"}
		}
		k.ServiceCIDR = cmp.Or(k.ServiceCIDR, "10.96.0.0/22")
		k.ControlPlane = cmp.Or(k.ControlPlane, "10.244.0.2")
	}
	return spec, nil
}

// equal says whether s and o describe the same lab.
func (s *Spec) equal(o *Spec) bool {
	a, errA := json.Marshal(s)
	b, errB := json.Marshal(o)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
