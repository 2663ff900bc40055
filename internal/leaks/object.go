package leaks

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Object is what is read of a Kubernetes object: the fields of all kinds that
// something is compared with.
type Object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Namespace         string            `json:"namespace"`
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Generation        int64             `json:"generation"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec   Spec   `json:"spec"`
	Status Status `json:"status"`
}

// Spec is what people want, of several kinds.
type Spec struct {
	HostNetwork bool   `json:"hostNetwork"` // Pod
	NodeName    string `json:"nodeName"`

	Type              string        `json:"type"` // Service
	ClusterIPs        []string      `json:"clusterIPs"`
	Ports             []ServicePort `json:"ports"`
	LoadBalancerClass string        `json:"loadBalancerClass"`

	NamespaceNetworkCIDRs []string `json:"namespaceNetworkCIDRs"` // Supervisor, NamespaceNetwork
	IngressCIDRs          []string `json:"ingressCIDRs"`
	EgressCIDRs           []string `json:"egressCIDRs"`
	ServiceCIDR           string   `json:"serviceCIDR"`
	SystemNamespaces      []string `json:"systemNamespaces"`
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Port     int    `json:"port"`
	Protocol string `json:"protocol"`
}

// Status is what is, of several kinds.
type Status struct {
	Phase        string      `json:"phase"` // Pod, Namespace
	PodIP        string      `json:"podIP"`
	Conditions   []Condition `json:"conditions"`
	LoadBalancer struct {
		Ingress []struct {
			IP string `json:"ip"`
		} `json:"ingress"`
	} `json:"loadBalancer"`
}

// Condition is one condition of an object.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// decodeObjects reads a list of objects.
func decodeObjects(data []byte) ([]Object, error) {
	var list struct {
		Items []Object `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return list.Items, nil
}

// owner returns how the store names who owns what is made for o.
func (o *Object) owner() string {
	if o.Kind == "Supervisor" {
		return o.Kind + "/" + o.Metadata.Name
	}
	if o.Metadata.Namespace == "" {
		return strings.Join([]string{o.Kind, o.Metadata.Name, o.Metadata.UID}, "/")
	}
	return strings.Join([]string{o.Kind, o.Metadata.Namespace, o.Metadata.Name, o.Metadata.UID}, "/")
}

// name returns what people call o.
func (o *Object) name() string {
	if o.Metadata.Namespace == "" {
		return o.Kind + "/" + o.Metadata.Name
	}
	return o.Kind + "/" + o.Metadata.Namespace + "/" + o.Metadata.Name
}

func (o *Object) leaves() bool { return o.Metadata.DeletionTimestamp != "" }

// isSystem reports whether a namespace shares the gateway of the system.
func (o *Object) isSystem(namespace string) bool {
	return slices.ContainsFunc(o.Spec.SystemNamespaces, func(n string) bool {
		prefix, wild := strings.CutSuffix(n, "*")
		return n == namespace || wild && strings.HasPrefix(namespace, prefix)
	})
}

// Words by which objects tell of their network.
const (
	networkReady = "NetworkReady"      // condition, with or without a domain
	realized     = "weft.dev/realized" // annotation of NetworkPolicies: generation N: true, or false: and why
)

// refused reports whether o says why it has no network, or not all of it.
// What is only on its way is not refused.
func (o *Object) refused() bool {
	for _, c := range o.Status.Conditions {
		if c.Type == networkReady || strings.HasSuffix(c.Type, "/"+networkReady) {
			return c.Status == "False" && c.Message != "" && c.Reason != "Pending"
		}
	}
	_, why, _ := strings.Cut(o.Metadata.Annotations[realized], ": ")
	why, said := strings.CutPrefix(why, "false: ")
	return said && why != "" && !strings.HasPrefix(why, "Pending")
}
