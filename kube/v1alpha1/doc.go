// Package v1alpha1 holds the API types of group weft.dev: what people configure
// in Kubernetes, and the network that follows for a namespace.
//
// +kubebuilder:object:generate=true
// +groupName=weft.dev
package v1alpha1

//go:generate go tool -modfile=../../tools/go.mod controller-gen object crd:allowDangerousTypes=false paths=. output:crd:dir=crds
