// Package compile turns intent into one table.Set per node, together with the
// problems that only the whole of the intent shows.
//
// It is a pure function that remembers: every result is a fact, built from the
// objects of the Tree and from other facts, and the Compiler records what the
// building of each fact read. An update rebuilds the facts that read something
// that changed, and stops where a fact turns out as it was. Since a fact
// depends on nothing but what it read, an update gives the same Set as
// compiling the Tree from nothing, in whatever order changes came.
//
// A large intent has some hundred thousand facts, so what one takes counts:
// what most have none or one of needs no allocation, and readings of what most
// likely is not there are watches. See watch.go.
//
// To add a result: give it a kind (kinds.go), a builder in the switch of
// build, and let the builder read through its run. See graph.go.
package compile
