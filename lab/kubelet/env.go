package kubelet

import (
	"context"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// objects reads what pods refer to.
type objects struct {
	client kubernetes.Interface
}

// configMap returns the entries of a ConfigMap; optional: none if it is missing.
func (o objects) configMap(ctx context.Context, namespace, name string, optional *bool) (map[string][]byte, error) {
	m, err := o.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for k, v := range m.Data {
		out[k] = []byte(v)
	}
	maps.Copy(out, m.BinaryData)
	return out, nil
}

func (o objects) secret(ctx context.Context, namespace, name string, optional *bool) (map[string][]byte, error) {
	s, err := o.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.Data, nil
}

// environment returns the variables of a container, in order, without those of
// the program's own; services are all of the cluster.
func (o objects) environment(ctx context.Context, pod *corev1.Pod, c *corev1.Container, services []*corev1.Service) ([]string, error) {
	vars := map[string]string{
		"PATH":     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME": pod.Name,
		"HOME":     "/root",
	}
	if c.TTY {
		vars["TERM"] = "xterm"
	}
	addServices(vars, pod, services)
	for _, from := range c.EnvFrom {
		var data map[string][]byte
		var err error
		switch {
		case from.ConfigMapRef != nil:
			data, err = o.configMap(ctx, pod.Namespace, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		case from.SecretRef != nil:
			data, err = o.secret(ctx, pod.Namespace, from.SecretRef.Name, from.SecretRef.Optional)
		}
		if err != nil {
			return nil, fmt.Errorf("envFrom: %w", err)
		}
		for k, v := range data {
			vars[from.Prefix+k] = string(v)
		}
	}
	for _, e := range c.Env {
		value, ok, err := o.variable(ctx, pod, c, e, vars)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", e.Name, err)
		}
		if ok {
			vars[e.Name] = value
		}
	}
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out, nil
}

// variable returns the value of e; ok is false if it is optional and missing.
func (o objects) variable(ctx context.Context, pod *corev1.Pod, c *corev1.Container, e corev1.EnvVar, vars map[string]string) (value string, ok bool, err error) {
	if e.ValueFrom == nil {
		return expand(e.Value, vars), true, nil
	}
	switch from := e.ValueFrom; {
	case from.FieldRef != nil:
		value, err = field(pod, from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = resourceField(pod, c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		data, err := o.configMap(ctx, pod.Namespace, r.Name, r.Optional)
		return pick(data, err, "configmap "+r.Name, r.Key, r.Optional)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		data, err := o.secret(ctx, pod.Namespace, r.Name, r.Optional)
		return pick(data, err, "secret "+r.Name, r.Key, r.Optional)
	}
	return "", false, fmt.Errorf("valueFrom: is of a kind that this node does not know (fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef)")
}

func pick(data map[string][]byte, err error, object, key string, optional *bool) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	value, ok := data[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("%s: has no key %s", object, key)
	}
	return string(value), ok, nil
}

// field returns what the downward API says of a pod.
func field(pod *corev1.Pod, path string) (string, error) {
	for prefix, values := range map[string]map[string]string{"metadata.labels": pod.Labels, "metadata.annotations": pod.Annotations} {
		if path == prefix {
			var b strings.Builder
			for _, k := range slices.Sorted(maps.Keys(values)) {
				fmt.Fprintf(&b, "%s=%s\n", k, strconv.Quote(values[k]))
			}
			return b.String(), nil
		}
		if key, ok := strings.CutPrefix(path, prefix+"['"); ok {
			return values[strings.TrimSuffix(key, "']")], nil
		}
	}
	var ips []string
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	values := map[string]string{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "metadata.uid": string(pod.UID),
		"spec.nodeName": pod.Spec.NodeName, "spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"status.podIP": pod.Status.PodIP, "status.podIPs": strings.Join(ips, ","),
		"status.hostIP": pod.Status.HostIP, "status.hostIPs": pod.Status.HostIP,
	}
	v, ok := values[path]
	if !ok {
		return "", fmt.Errorf("fieldPath: %q: is unknown (metadata.labels, metadata.annotations, %s)", path, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
	}
	return v, nil
}

// resourceField returns a request or limit of a container, rounded up to its
// divisor; without a limit, what the machine has.
func resourceField(pod *corev1.Pod, c *corev1.Container, r *corev1.ResourceFieldSelector) (string, error) {
	if r.ContainerName != "" {
		at := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == r.ContainerName })
		if at < 0 {
			return "", fmt.Errorf("resourceFieldRef: container %s: is not in the pod", r.ContainerName)
		}
		c = &pod.Spec.Containers[at]
	}
	kind, name, _ := strings.Cut(r.Resource, ".")
	list := map[string]corev1.ResourceList{"limits": c.Resources.Limits, "requests": c.Resources.Requests}[kind]
	q, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits" {
		q = capacity(0)[corev1.ResourceName(name)]
	}
	divisor := r.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return strconv.FormatInt((q.MilliValue()+divisor.MilliValue()-1)/divisor.MilliValue(), 10), nil
	}
	return strconv.FormatInt((q.Value()+divisor.Value()-1)/divisor.Value(), 10), nil
}

// capacity is what a node has of resources.
func capacity(pods int) corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceEphemeralStorage: resource.MustParse("50Gi"),
		corev1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	list[corev1.ResourceMemory] = *resource.NewQuantity(machineMemory(), resource.BinarySI)
	return list
}

// addServices adds the variables that name the services of the pod's
// namespace, and the API server. Source: kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
func addServices(vars map[string]string, pod *corev1.Pod, services []*corev1.Service) {
	all := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	for _, s := range services {
		master := s.Namespace == metav1.NamespaceDefault && s.Name == "kubernetes"
		if !master && (!all || s.Namespace != pod.Namespace) || s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
		vars[name+"_SERVICE_HOST"] = s.Spec.ClusterIP
		for i, p := range s.Spec.Ports {
			number, proto := strconv.Itoa(int(p.Port)), strings.ToLower(string(p.Protocol))
			address := net.JoinHostPort(s.Spec.ClusterIP, number)
			if i == 0 {
				vars[name+"_SERVICE_PORT"] = number
				vars[name+"_PORT"] = proto + "://" + address
			}
			if p.Name != "" {
				vars[name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))] = number
			}
			prefix := name + "_PORT_" + number + "_" + strings.ToUpper(proto)
			vars[prefix], vars[prefix+"_PROTO"] = proto+"://"+address, proto
			vars[prefix+"_PORT"], vars[prefix+"_ADDR"] = number, s.Spec.ClusterIP
		}
	}
}

// expand replaces $(NAME) by the variable, if there is one; $$ is a dollar.
// Source: k8s.io/api/core/v1, EnvVar.Value.
func expand(text string, vars map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch text[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(text[i:], ')')
			if end < 0 {
				b.WriteByte('$')
				continue
			}
			if v, ok := vars[text[i+2:i+end]]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(text[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}
