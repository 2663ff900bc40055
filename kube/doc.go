// Package kube makes what Kubernetes objects ask for intent in a store: it runs
// one controller a concern, and takes away what no object asks for any more.
package kube
