package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trace asks what becomes of a connection, once: its spec does not change.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Disposition",type=string,JSONPath=`.status.disposition`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Rule",type=string,JSONPath=`.status.rule.name`
type Trace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   TraceSpec   `json:"spec"`
	Status TraceStatus `json:"status,omitempty"`
}

// TraceSpec is the question.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed (make another Trace)"
// +kubebuilder:validation:XValidation:rule="!has(self.protocol) || self.protocol == 'ICMP' || (has(self.port) && self.port > 0) || has(self.destination.service)",message="port: is missing (1 to 65535)"
// +kubebuilder:validation:XValidation:rule="!has(self.protocol) || self.protocol != 'ICMP' || !((has(self.port) && self.port > 0) || (has(self.sourcePort) && self.sourcePort > 0))",message="port: is given for ICMP (want it empty)"
type TraceSpec struct {
	Source      TraceSource      `json:"source"`
	Destination TraceDestination `json:"destination"`

	// protocol of the connection
	// +kubebuilder:validation:Enum=TCP;UDP;ICMP
	// +kubebuilder:default=TCP
	Protocol string `json:"protocol,omitempty"`

	// port is the destination's, of TCP and UDP. Of a service with one port it
	// may be left out.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`

	// sourcePort is chosen if it is left out.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	SourcePort int32 `json:"sourcePort,omitempty"`

	// ttlSeconds is how long the Trace stays, from its creation on. It goes within
	// half a minute after that, but not before it is answered.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	// +kubebuilder:default=600
	// +optional
	TTLSeconds int32 `json:"ttlSeconds,omitempty"`
}

// DefaultTraceTTL is what the ttlSeconds of a Trace are if they are left out.
const DefaultTraceTTL = 600

// TraceSource is who asks for the connection: one of its fields.
//
// +kubebuilder:validation:XValidation:rule="has(self.pod) != has(self.address)",message="want one of pod and address"
type TraceSource struct {
	// pod of the Trace's namespace
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pod string `json:"pod,omitempty"`

	// address of a pod of the same namespace, or one outside, which comes in by a
	// Tier-0's uplink
	// +optional
	Address IP `json:"address,omitempty"`
}

// TraceDestination is whom the connection is for: one of pod, service and
// address.
//
// +kubebuilder:validation:XValidation:rule="(has(self.pod) ? 1 : 0) + (has(self.service) ? 1 : 0) + (has(self.address) ? 1 : 0) == 1",message="want one of pod, service and address"
// +kubebuilder:validation:XValidation:rule="!has(self.namespace) || !has(self.address)",message="namespace: is given for an address (want it empty)"
type TraceDestination struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pod string `json:"pod,omitempty"`

	// service is reached by its ClusterIP.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Service string `json:"service,omitempty"`

	// +optional
	Address IP `json:"address,omitempty"`

	// namespace of pod or service; empty: the Trace's.
	// +kubebuilder:validation:MaxLength=63
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// TracePhase says how far a Trace is.
//
// +kubebuilder:validation:Enum=Pending;Done;Failed
type TracePhase string

// Phases of a Trace.
const (
	TracePending TracePhase = "Pending" // not looked at yet, or something that it names is not there yet
	TraceDone    TracePhase = "Done"    // answered
	TraceFailed  TracePhase = "Failed"  // cannot be answered; message says why
)

// TraceStatus is the answer.
type TraceStatus struct {
	// +optional
	Phase TracePhase `json:"phase,omitempty"`

	// message says why phase is Pending or Failed.
	// +optional
	Message string `json:"message,omitempty"`

	// delivered says whether the connection comes about: packet and reply.
	// +optional
	Delivered bool `json:"delivered,omitempty"`

	// disposition is delivered, dropped or rejected.
	// +optional
	Disposition string `json:"disposition,omitempty"`

	// reason is why it is not delivered.
	// +optional
	Reason string `json:"reason,omitempty"`

	// at is where the packet ended, such as port shop/web-1; if only its reply is
	// dropped, where that ended.
	// +optional
	At string `json:"at,omitempty"`

	// stage of the pipeline that the packet, or its reply, ended in at that place
	// +optional
	Stage string `json:"stage,omitempty"`

	// rule is the one that did not let it pass.
	// +optional
	Rule *TraceRule `json:"rule,omitempty"`

	// rules are the firewall rules that decided about the packet on its way, in
	// order. The last one is rule if that did not let the packet pass. Rules that
	// the reply met are not among them.
	// +listType=atomic
	// +optional
	Rules []TraceRule `json:"rules,omitempty"`

	// hops is what a traceroute shows.
	// +listType=atomic
	// +optional
	Hops []TraceHop `json:"hops,omitempty"`

	// sourceSeen is the source address that the destination sees.
	// +optional
	SourceSeen string `json:"sourceSeen,omitempty"`

	// text is all of the trace for people.
	// +optional
	Text string `json:"text,omitempty"`

	// advice says in one line what to do.
	// +optional
	Advice string `json:"advice,omitempty"`
}

// Actions of a TraceRule.
const (
	TraceAllow  = "ALLOW"
	TraceDrop   = "DROP"
	TraceReject = "REJECT"
)

// TraceRule names a firewall rule, or another one that drops, and what it did.
type TraceRule struct {
	// stage is the part of the pipeline that asked the rule, such as dfw_in.
	// +optional
	Stage string `json:"stage,omitempty"`
	// at is whose rule it is: a port or gateway, such as port shop/web-1.
	// +optional
	At string `json:"at,omitempty"`
	// +optional
	ID int64 `json:"id,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// policy is the path of the rule's policy.
	// +optional
	Policy string `json:"policy,omitempty"`
	// +optional
	Category string `json:"category,omitempty"`
	// action is what the rule did: ALLOW, DROP or REJECT.
	// +optional
	Action string `json:"action,omitempty"`
}

// TraceHop is one line of a traceroute.
type TraceHop struct {
	// address is who answers; empty: nobody.
	// +optional
	Address string `json:"address,omitempty"`
	// component is kind and name, such as tier-1 red.
	// +optional
	Component string `json:"component,omitempty"`
	// +optional
	Path string `json:"path,omitempty"`
	// annotation is !N, !H, !F or !X as in traceroute(8).
	// +optional
	Annotation string `json:"annotation,omitempty"`
}

// TraceList is a list of Traces.
//
// +kubebuilder:object:root=true
type TraceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Trace `json:"items"`
}
