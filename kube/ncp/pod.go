package ncp

import (
	corev1 "k8s.io/api/core/v1"
)

// WantsAddress reports whether a pod has, or shall have, an address of its
// namespace's network: one that has its own network and is not finished. Whether
// a node was found for it does not matter.
func WantsAddress(pod *corev1.Pod) bool {
	return !pod.Spec.HostNetwork && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// GuestCluster returns the guest cluster that an object with the labels is a
// machine of; empty: of none.
func GuestCluster(labels map[string]string) string {
	for _, key := range GuestClusterLabels() {
		if v := labels[key]; v != "" {
			return v
		}
	}
	return ""
}
