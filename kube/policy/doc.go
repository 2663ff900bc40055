// Package policy turns NetworkPolicies, and the cluster-wide policies of
// sigs.k8s.io/network-policy-api, into rules of the distributed firewall and
// groups.
//
// Selectors become conditions on tags, so that a pod that comes or goes changes
// no policy: its port is in the groups whose conditions it meets. Only a named
// port needs the pods, for its numbers; who has which number is a tag again.
//
// What a policy says that has no meaning here is closed: it lets nothing
// through, and a Finding says so.
package policy
