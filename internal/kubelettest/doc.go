// Package kubelettest proves the way of production: pods that real kubelets
// start with a real container runtime talk through the data plane that
// Kubernetes objects asked for. It has tests only.
package kubelettest
