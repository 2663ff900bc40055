// Package tenant gives Kubernetes namespaces their networks: what all of a
// cluster share, from the Supervisor, and a gateway, subnets, an egress address
// and isolation for each namespace.
package tenant
