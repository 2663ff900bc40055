package kubetest

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// What people made before there is a Supervisor.
const (
	Tier0Path       = "/infra/tier-0s/provider"
	UplinkPath      = Tier0Path + "/locale-services/default/interfaces/uplink"
	EdgeClusterPath = "/infra/sites/default/enforcement-points/default/edge-clusters/ec"
)

// Provider puts the Tier-0 of Supervisor into a store, as people would.
func Provider(t testing.TB, s *store.Store) {
	t.Helper()
	_, problems, err := s.Update(t.Context(), func(*intent.Tree) ([]intent.Change, error) { return ProviderChanges(), nil })
	check(t, err)
	for _, p := range problems {
		t.Fatal(p)
	}
}

// ProviderChanges returns the Tier-0 of Supervisor: an uplink and a default
// route.
func ProviderChanges() []intent.Change {
	return []intent.Change{
		intent.Put(Tier0Path, &intent.Tier0{}),
		intent.Put(Tier0Path+"/locale-services/default", &intent.LocaleServices{EdgeClusterPath: EdgeClusterPath}),
		intent.Put(UplinkPath, &intent.Tier0Interface{
			Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.105.1"}, PrefixLen: 24}},
		}),
		intent.Put(Tier0Path+"/static-routes/default", &intent.StaticRoutes{
			Network: "0.0.0.0/0", NextHops: []intent.RouterNexthop{{IPAddress: "192.168.105.253"}},
		}),
	}
}

// Namespace returns a namespace with labels.
func Namespace(name string, labels map[string]string) *corev1.Namespace {
	o := &corev1.Namespace{ObjectMeta: objectMeta(name)}
	o.Labels = labels
	return o
}

// Pod returns a pod of one container.
func Pod(namespace, name string, labels map[string]string) *corev1.Pod {
	o := &corev1.Pod{ObjectMeta: objectMeta(name), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "weft/web"}}}}
	o.Namespace, o.Labels = namespace, labels
	return o
}

func objectMeta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
func getOptions() metav1.GetOptions            { return metav1.GetOptions{} }
func updateOptions() metav1.UpdateOptions      { return metav1.UpdateOptions{} }
