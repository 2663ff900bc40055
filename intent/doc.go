// Package intent is the tenant model: objects in NSX Policy words, each named
// by its policy path, with defaults, references and validation; it knows no
// Kubernetes, no HTTP and no I/O.
//
// Parse reads a Policy API hierarchical body into Changes, Tree.Apply puts
// them into a Tree all or nothing, Encode writes objects back out. Objects in
// a Tree have been validated: their accessors (Segment.Gateways,
// PolicyNatRule.Sources, …) cannot fail, so that readers of a Tree parse no
// strings.
package intent
