package writer

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/store"
)

// Kinds of owners.
const (
	Supervisor           = "Supervisor"
	Namespace            = "Namespace"
	Pod                  = "Pod"
	Service              = "Service"
	NetworkPolicy        = "NetworkPolicy"
	AdminNetworkPolicy   = "AdminNetworkPolicy"
	BaselineAdminPolicy  = "BaselineAdminNetworkPolicy"
	ClusterNetworkPolicy = "ClusterNetworkPolicy"
)

// Kinds returns the kinds of owners in the order in which they go: first what
// names others or is below them.
func Kinds() []string {
	return []string{
		NetworkPolicy, AdminNetworkPolicy, BaselineAdminPolicy, ClusterNetworkPolicy, Service, Pod, Namespace, Supervisor,
	}
}

// Owner returns who owns what is made for a Kubernetes object:
// <kind>/<namespace>/<name>/<uid>, without the namespace if the object has
// none.
func Owner(kind string, o client.Object) store.Owner {
	return OwnerNamed(kind, client.ObjectKeyFromObject(o), o.GetUID())
}

// OwnerNamed is Owner by name.
func OwnerNamed(kind string, key types.NamespacedName, uid types.UID) store.Owner {
	parts := []string{kind, key.Namespace, key.Name, string(uid)}
	if key.Namespace == "" {
		parts = []string{kind, key.Name, string(uid)}
	}
	return store.Owner(strings.Join(parts, "/"))
}

// SupervisorOwner returns who owns what a Supervisor makes. It has no UID: a new
// Supervisor of the name takes over what the one before made.
func SupervisorOwner(name string) store.Owner { return store.Owner(Supervisor + "/" + name) }

// ParseOwner is the inverse of OwnerNamed and SupervisorOwner; false: o is no
// Kubernetes object.
func ParseOwner(o store.Owner) (kind string, key types.NamespacedName, uid types.UID, ok bool) {
	parts := strings.Split(string(o), "/")
	switch {
	case len(parts) == 2 && parts[0] == Supervisor:
		return parts[0], types.NamespacedName{Name: parts[1]}, "", true
	case len(parts) == 3:
		return parts[0], types.NamespacedName{Name: parts[1]}, types.UID(parts[2]), true
	case len(parts) == 4:
		return parts[0], types.NamespacedName{Namespace: parts[1], Name: parts[2]}, types.UID(parts[3]), true
	}
	return "", types.NamespacedName{}, "", false
}

// Prefix returns what the names of all owners of a kind begin with, and with a
// namespace and a name, those of one object under any UID. See store.Owners.
func Prefix(kind string, key types.NamespacedName) string {
	p := kind + "/"
	if key.Namespace != "" {
		p += key.Namespace + "/"
	}
	if key.Name != "" {
		p += key.Name + "/"
	}
	return p
}
