package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultSupervisor is the name that a Supervisor must have: there is one.
const DefaultSupervisor = "default"

// CIDR is an address and a prefix length, such as 10.244.0.0/20. Host bits are
// ignored.
//
// +kubebuilder:validation:MaxLength=49
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="is not a CIDR (such as 10.244.0.0/20)"
type CIDR string

// IP is an address.
//
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="is not an address (such as 10.0.0.53)"
type IP string

// PolicyPath is the path of a policy object.
//
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:Pattern=`^/infra(/[^/\s]+)+$`
type PolicyPath string

// LoadBalancerSize is the size of a namespace's load balancer.
//
// +kubebuilder:validation:Enum=SMALL;MEDIUM;LARGE
type LoadBalancerSize string

// Supervisor is the configuration of the cluster's networks. There is one, named
// default.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterID`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Subnets",type=string,JSONPath=`.status.usage.subnets.text`
// +kubebuilder:printcolumn:name="Egress",type=string,JSONPath=`.status.usage.egress.text`
// +kubebuilder:printcolumn:name="Ingress",type=string,JSONPath=`.status.usage.ingress.text`
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="metadata.name: there is one Supervisor (default)"
type Supervisor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SupervisorSpec   `json:"spec"`
	Status SupervisorStatus `json:"status,omitempty"`
}

// SupervisorSpec is what people want. Effective parses and checks it as a whole.
//
// +kubebuilder:validation:XValidation:rule="self.clusterID == oldSelf.clusterID",message="clusterID: cannot be changed, the names of all objects come from it"
// +kubebuilder:validation:XValidation:rule="!(has(self.routedMode) && self.routedMode) || !has(self.egressCIDRs) || size(self.egressCIDRs) == 0",message="egressCIDRs: is given in routed mode (want it empty)"
// +kubebuilder:validation:XValidation:rule="(has(self.routedMode) && self.routedMode) || (has(self.egressCIDRs) && size(self.egressCIDRs) > 0)",message="egressCIDRs: is missing (want a CIDR, or routedMode)"
type SupervisorSpec struct {
	// clusterID is part of the names of all objects.
	// +kubebuilder:default=domain-c8
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$`
	ClusterID string `json:"clusterID,omitempty"`

	// namespaceNetworkCIDRs is where the subnets of namespaces are carved from
	// (pod_cidrs). The first is at least a /23.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	NamespaceNetworkCIDRs []CIDR `json:"namespaceNetworkCIDRs"`

	// namespaceSubnetPrefix is the prefix length of each such subnet.
	// +kubebuilder:default=28
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=126
	NamespaceSubnetPrefix int32 `json:"namespaceSubnetPrefix,omitempty"`

	// serviceCIDR holds the ClusterIPs of the cluster.
	ServiceCIDR CIDR `json:"serviceCIDR"`

	// ingressCIDRs holds the addresses of Services of type LoadBalancer.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	IngressCIDRs []CIDR `json:"ingressCIDRs"`

	// egressCIDRs holds one source address a namespace towards the outside.
	// It is empty iff routedMode.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	EgressCIDRs []CIDR `json:"egressCIDRs,omitempty"`

	// tier0Path is the Tier-0 that the namespaces' gateways connect to.
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/infra/tier-0s/')",message="is not the path of a Tier-0 (such as /infra/tier-0s/provider)"
	Tier0Path PolicyPath `json:"tier0Path"`

	// edgeClusterPath is where the namespaces' gateways translate addresses.
	EdgeClusterPath PolicyPath `json:"edgeClusterPath"`

	// routedMode advertises the namespaces' subnets instead of translating
	// them.
	// +optional
	RoutedMode bool `json:"routedMode,omitempty"`

	// managementDNS is the servers that know the names of the infrastructure.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	ManagementDNS []IP `json:"managementDNS,omitempty"`

	// workloadDNS is the servers that workloads ask. They are reached by way of
	// the namespaces' networks, so none of them is a managementDNS too.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	WorkloadDNS []IP `json:"workloadDNS,omitempty"`

	// systemNamespaces share one gateway and one egress address, and are not
	// isolated. A name may end in *.
	// +kubebuilder:default={"kube-system","kube-public","kube-node-lease","default","vmware-system-*"}
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([a-z0-9-]*([a-z0-9]|\*))?$`
	// +listType=set
	// +optional
	SystemNamespaces []string `json:"systemNamespaces,omitempty"`

	// isolation drops what comes into a namespace from others.
	// +kubebuilder:default=true
	// +optional
	Isolation *bool `json:"isolation,omitempty"`

	// logDroppedTraffic logs what isolation drops.
	// +optional
	LogDroppedTraffic bool `json:"logDroppedTraffic,omitempty"`

	// snatExemptCIDRs are destinations towards which sources are not
	// translated, besides the namespaces' networks and ingressCIDRs.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	SNATExemptCIDRs []CIDR `json:"snatExemptCIDRs,omitempty"`

	// snatToIngress translates sources towards ingressCIDRs too, so that other
	// namespaces see the egress address.
	// +optional
	SNATToIngress bool `json:"snatToIngress,omitempty"`

	// loadBalancerSize is the size of a namespace's load balancer.
	// +kubebuilder:default=SMALL
	// +optional
	LoadBalancerSize LoadBalancerSize `json:"loadBalancerSize,omitempty"`

	// addressHoldTime is how long a released address is not given to anyone
	// else.
	// +kubebuilder:default="60s"
	// +optional
	AddressHoldTime *metav1.Duration `json:"addressHoldTime,omitempty"`

	// controlPlane makes a port for the machine that the API server runs on. It
	// has the first address of the system segment.
	// +optional
	ControlPlane *ControlPlane `json:"controlPlane,omitempty"`
}

// ControlPlane is the machine of the API server.
type ControlPlane struct {
	// macAddress is that of its interface.
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`
	MACAddress string `json:"macAddress"`

	// attachment is the attachment id of its port.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Attachment string `json:"attachment"`

	// port is where the API server listens.
	// +kubebuilder:default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
}

// SupervisorStatus is what is.
type SupervisorStatus struct {
	// conditions has Ready.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// usage is how much of the ranges is taken.
	// +optional
	Usage Usage `json:"usage,omitempty"`

	// controlPlaneAddress is the address of spec.controlPlane's port.
	// +optional
	ControlPlaneAddress string `json:"controlPlaneAddress,omitempty"`
}

// Usage is how much of a Supervisor's ranges is taken.
type Usage struct {
	// subnets of namespaces
	Subnets Share `json:"subnets,omitempty"`
	// egress addresses
	Egress Share `json:"egress,omitempty"`
	// ingress addresses
	Ingress Share `json:"ingress,omitempty"`
}

// Share is a part of a whole.
type Share struct {
	// +optional
	Used int64 `json:"used,omitempty"`
	// +optional
	Total int64 `json:"total,omitempty"`
	// text is used/total
	// +optional
	Text string `json:"text,omitempty"`
}

// SupervisorList is a list of Supervisors.
//
// +kubebuilder:object:root=true
type SupervisorList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Supervisor `json:"items"`
}
