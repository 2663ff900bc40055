package ncp

import (
	"net/netip"
	"strconv"
	"strings"
)

// Annotations that NCP writes, and those of them that people write for it.
const (
	AnnotationRouter       = "ncp/router_id" // on a Namespace: id of its Tier-1
	AnnotationSNAT         = "ncp/snat_ip"   // on a Namespace: its egress address
	AnnotationPool         = "ncp/extpoolid" // on a Namespace: see PoolID
	AnnotationStaticSNAT   = "ncp/static_snat_ip"
	AnnotationSNATStatus   = "ncp/snat_ip_status" // on a Namespace: what became of AnnotationStaticSNAT, see SNATAllocated
	AnnotationErrorSNAT    = "ncp/error.snat"     // on a Namespace: why it has no egress address; on a Service: why its pods have none of its pool
	AnnotationErrorLB      = "ncp/error.loadbalancer"
	AnnotationErrorNetwork = "ncp/error.network" // on a Namespace: why it has no network
	AnnotationSharedTier1  = "vmware-system-shared-t1"

	// On an Ingress.
	AnnotationErrorIngress = "ncp/error.ingress" // what of it is not done
	AnnotationHTTPRedirect = "ncp/http-redirect" // true: HTTP is sent to HTTPS
	AnnotationUseRegex     = "ncp/use-regex"     // paths are regular expressions

	annotationSubnet = "ncp/subnet-"
)

// Values of AnnotationSNATStatus, as NCP has them.
const (
	SNATAllocated   = "IP_ALLOCATED_SUCCESSFULLY" // the address that was asked for is the namespace's
	SNATInUse       = "IP_ALREADY_ALLOCATED"      // another has it; a namespace that had an address keeps that
	SNATOutside     = "IP_NOT_IN_POOL"            // it is in none of the namespace's egress CIDRs
	SNATNotRealized = "IP_NOT_REALIZED"           // a node does not take it
	SNATExhausted   = "IP_POOL_EXHAUSTED"         // no address of the egress CIDRs is free; none needs to be asked for
	SNATFailed      = "SNAT_PROCESS_FAILED"       // what was asked for is no address, or the namespace cannot have one of its own
)

// LabelClusterID is the label of every namespace with a network: the cluster's
// id.
const LabelClusterID = "vSphereClusterID"

// AnnotationSubnet returns the annotation of segment n's subnet on a Namespace.
func AnnotationSubnet(n int) string { return annotationSubnet + strconv.Itoa(n) }

// IsAnnotationSubnet reports whether a key is an AnnotationSubnet.
func IsAnnotationSubnet(key string) bool {
	n, ok := strings.CutPrefix(key, annotationSubnet)
	_, err := strconv.ParseUint(n, 10, 31)
	return ok && err == nil
}

// PoolID returns what AnnotationPool has for an egress range:
// <cluster>:<instance>-ippool-<first>-<last>, the addresses with dashes for
// dots and colons. instance is the UID of the Supervisor.
func PoolID(cluster, instance string, first, last netip.Addr) string {
	dashed := strings.NewReplacer(".", "-", ":", "-")
	return cluster + ":" + instance + "-ippool-" + dashed.Replace(first.String()) + "-" + dashed.Replace(last.String())
}
