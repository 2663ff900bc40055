// Package ncp spells the names, tags and annotations that NCP uses: the one
// place that knows them.
//
// C is the cluster's id (Supervisor.spec.clusterID), U the UID of a Kubernetes
// namespace. Policy paths come from both alone, so that whoever builds an
// object finds those of others without asking.
package ncp
