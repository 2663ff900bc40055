package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// clusterFlags say which cluster and namespace is meant, as kubectl's do.
type clusterFlags struct {
	kubeconfig, context, namespace string
}

func (f *clusterFlags) add(root *cobra.Command, env *Env) {
	p := root.PersistentFlags()
	p.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the cluster (default: KUBECONFIG, else ~/.kube/config)")
	p.StringVar(&f.context, "context", "", "context of the kubeconfig (default: the current one)")
	p.StringVarP(&f.namespace, "namespace", "n", "", "namespace of what is named without one (default: the context's)")
	c := &completer{env: env, flags: f}
	for name, fn := range map[string]cobra.CompletionFunc{"namespace": c.namespaces, "context": c.contexts} {
		if err := root.RegisterFlagCompletionFunc(name, fn); err != nil {
			panic(err) // the flag is there, once
		}
	}
}

// config returns what the flags name.
func (f clusterFlags) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.context}
	overrides.Context.Namespace = f.namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// connect is Env.Connect. It does not dial yet.
func connect(f clusterFlags) (client.WithWatch, string, error) {
	config := f.config()
	cfg, err := config.ClientConfig()
	var namespace string
	if err == nil {
		namespace, _, err = config.Namespace()
	}
	if clientcmd.IsEmptyConfig(err) {
		return nil, "", errors.New("kubeconfig: there is none (--kubeconfig or KUBECONFIG says where it is)")
	} else if err != nil {
		return nil, "", fmt.Errorf("kubeconfig: %w", err)
	}
	cfg.UserAgent, cfg.QPS = "kubectl-weft", -1 // a few requests
	known, err := scheme()
	if err != nil {
		return nil, "", err
	}
	c, err := client.NewWithWatch(cfg, client.Options{Scheme: known})
	if err != nil {
		return nil, "", fmt.Errorf("cluster: %w", err)
	}
	return c, namespace, nil
}

// scheme returns the types that the commands read.
func scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, netv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	return s, nil
}
