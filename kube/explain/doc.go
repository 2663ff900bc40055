// Package explain says in words of Kubernetes what the network does: whom
// people name, what a Trace found, which object made the rule that decided, what
// would let a connection pass, and what intent stands behind an object.
//
//	ref.go      what people type
//	end.go      that, found in the cluster
//	ask.go      a Trace: made, answered, deleted
//	rule.go     the firewall rules of a Trace's text
//	origin.go   a policy path to the object that made it
//	answer.go   all of it in words
//	suggest.go  the NetworkPolicy that would let it pass
//	behind.go   intent of an object, and its tables in table.go
//	status.go   what the object itself says, where intent cannot be asked
package explain
