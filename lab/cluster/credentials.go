package cluster

import (
	"fmt"
	"net/netip"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/internal/pki"
)

// KubeletClient is the common name by which the API server calls kubelets.
const KubeletClient = "kube-apiserver-kubelet-client"

// masters may do everything, whatever RBAC says.
const masters = "system:masters"

// credentials makes the authorities, certificates, keys and kubeconfigs that
// are missing, differ or end soon.
func (c Config) credentials(s *state) error {
	ca, err := pki.Ensure(c.pki(""), "kubernetes-ca")
	if err != nil {
		return err
	}
	// Of its own: a client of the API server is none of etcd's.
	forEtcd, err := pki.Ensure(c.pki("etcd"), "etcd-ca")
	if err != nil {
		return err
	}
	// etcd's certificate is a client's too: it calls itself.
	etcd := pki.Request{Name: "etcd", Hosts: []string{"localhost", "127.0.0.1"}, Server: true, Client: true}
	if err := forEtcd.Ensure(c.pki("etcd/server"), etcd); err != nil {
		return err
	}
	if err := forEtcd.Ensure(c.pki("etcd/client"), pki.Request{Name: apiserver, Client: true}); err != nil {
		return err
	}
	if err := ca.Ensure(c.pki("apiserver"), c.serving()); err != nil {
		return err
	}
	if err := ca.Ensure(c.pki("kubelet-client"), pki.Request{Name: KubeletClient, Groups: []string{masters}, Client: true}); err != nil {
		return err
	}
	if err := pki.EnsureKey(c.pki("service-accounts")); err != nil {
		return err
	}
	users := map[string]pki.Request{
		Admin:       {Name: "admin", Groups: []string{masters}},
		Weft:        {Name: "weft", Groups: []string{masters}},
		controllers: {Name: "system:kube-controller-manager"},
		scheduler:   {Name: "system:kube-scheduler"},
	}
	for _, n := range c.Nodes {
		users[Node(n)] = pki.Request{Name: "system:node:" + n, Groups: []string{"system:nodes"}}
	}
	for name, r := range users {
		r.Client = true
		if err := c.kubeconfig(ca, s, name, r); err != nil {
			return err
		}
	}
	return nil
}

// serving is the certificate of the API server: for every name by which
// somebody calls it.
func (c Config) serving() pki.Request {
	service := netip.MustParsePrefix(c.ServiceCIDR).Addr().Next() // check took it
	return pki.Request{Name: apiserver, Server: true, Hosts: []string{
		"127.0.0.1", "localhost", service.String(), c.AdvertiseAddress,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}}
}

// kubeconfig makes the certificate and the kubeconfig of a user.
func (c Config) kubeconfig(ca *pki.CA, s *state, name string, r pki.Request) error {
	if err := ca.Ensure(c.pki(name), r); err != nil {
		return err
	}
	cert, err := os.ReadFile(c.pki(name + ".crt"))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(c.pki(name + ".key"))
	if err != nil {
		return err
	}
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "weft",
		"clusters": []any{map[string]any{"name": "weft", "cluster": map[string]any{
			"server": "https://" + s.address(apiserver), "certificate-authority-data": ca.PEM(),
		}}},
		"users": []any{map[string]any{"name": name, "user": map[string]any{
			"client-certificate-data": cert, "client-key-data": key,
		}}},
		"contexts": []any{map[string]any{"name": "weft", "context": map[string]any{"cluster": "weft", "user": name}}},
	})
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", name, err)
	}
	return writeFile(c.Kubeconfig(name), data)
}
