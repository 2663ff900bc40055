package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NamespaceNetwork is what one namespace has of its own; what it does not give
// is the Supervisor's. Its name is the namespace's.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && size(self.metadata.name) <= 63",message="metadata.name: is not the name of a namespace"
type NamespaceNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NamespaceNetworkSpec   `json:"spec"`
	Status NamespaceNetworkStatus `json:"status,omitempty"`
}

// NamespaceNetworkSpec is what people want. Effective parses and checks it
// together with the Supervisor's.
//
// +kubebuilder:validation:XValidation:rule="(has(self.namespaceNetworkCIDRs) && size(self.namespaceNetworkCIDRs) > 0) || !(has(self.tier0Path) || (has(self.ingressCIDRs) && size(self.ingressCIDRs) > 0) || (has(self.egressCIDRs) && size(self.egressCIDRs) > 0))",message="namespaceNetworkCIDRs: is missing (tier0Path, ingressCIDRs and egressCIDRs want it)"
// +kubebuilder:validation:XValidation:rule="!(has(self.routedMode) && self.routedMode) || !has(self.egressCIDRs) || size(self.egressCIDRs) == 0",message="egressCIDRs: is given in routed mode (want it empty)"
type NamespaceNetworkSpec struct {
	// namespaceNetworkCIDRs is where the namespace's subnets are carved from.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	NamespaceNetworkCIDRs []CIDR `json:"namespaceNetworkCIDRs,omitempty"`

	// ingressCIDRs holds the addresses of its Services of type LoadBalancer.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	IngressCIDRs []CIDR `json:"ingressCIDRs,omitempty"`

	// egressCIDRs holds its source address towards the outside.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	EgressCIDRs []CIDR `json:"egressCIDRs,omitempty"`

	// tier0Path is the Tier-0 that its gateway connects to.
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/infra/tier-0s/')",message="is not the path of a Tier-0 (such as /infra/tier-0s/provider)"
	// +optional
	Tier0Path PolicyPath `json:"tier0Path,omitempty"`

	// subnetPrefix is the prefix length of its subnets.
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=126
	// +optional
	SubnetPrefix int32 `json:"subnetPrefix,omitempty"`

	// routedMode advertises its subnets instead of translating them.
	// +optional
	RoutedMode *bool `json:"routedMode,omitempty"`

	// loadBalancerSize is the size of its load balancer.
	// +optional
	LoadBalancerSize LoadBalancerSize `json:"loadBalancerSize,omitempty"`

	// snatToIngress translates sources towards ingress addresses too, so that
	// other namespaces see its egress address.
	// +optional
	SNATToIngress *bool `json:"snatToIngress,omitempty"`
}

// NamespaceNetworkStatus is what is.
type NamespaceNetworkStatus struct {
	// conditions has Ready.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// NamespaceNetworkList is a list of NamespaceNetworks.
//
// +kubebuilder:object:root=true
type NamespaceNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NamespaceNetwork `json:"items"`
}
