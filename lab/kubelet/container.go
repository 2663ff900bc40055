package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// programDir is where containers find this node's own programs.
const programDir = "/.weft"

// builder makes the specs of a node's containers.
type builder struct {
	objects
	config Config
}

// build returns the spec of run number n of a container of the pod in dir, whose
// volumes are at the given places.
// Errors: ErrImage; the pod asks for what does not exist or this node can not do.
func (b builder) build(ctx context.Context, pod *corev1.Pod, c *corev1.Container, n int, dir string, volumes map[string]string, services []*corev1.Service) (*spec, error) {
	program, err := b.config.Images.Find(c.Image)
	if err != nil {
		return nil, err
	}
	s := &spec{
		ID: runID(string(pod.UID), c.Name, n), Name: c.Name, Dir: c.WorkingDir,
		Hide: b.config.hidden(), Scratch: filepath.Join(dir, "scratch"), Log: logPath(dir, c.Name, n),
		Stdin: c.Stdin, Once: c.StdinOnce, TTY: c.TTY, Files: b.identity(pod),
	}
	for _, d := range []string{s.Scratch, filepath.Dir(s.Log)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	if s.Env, err = b.environment(ctx, pod, c, services); err != nil {
		return nil, err
	}
	if s.Args, err = b.command(program, c, s.Env); err != nil {
		return nil, err
	}
	if s.Mounts, err = mounts(pod, c, volumes, variables(s.Env)); err != nil {
		return nil, err
	}
	for _, p := range []string{b.config.Program, b.config.Ingress} {
		if _, err := os.Stat(p); err == nil {
			s.Mounts = append(s.Mounts, mount{p, filepath.Join(programDir, filepath.Base(p)), true})
		}
	}
	sortMounts(s.Mounts)
	return s, nil
}

// logPath returns the log of run number n of a container.
func logPath(dir, container string, n int) string {
	return filepath.Join(dir, "logs", container, strconv.Itoa(n)+".log")
}

func variables(env []string) map[string]string {
	out := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		out[k] = v
	}
	return out
}

// command returns what a container runs: its command, or what the image stands
// for, with its arguments.
func (b builder) command(program string, c *corev1.Container, env []string) ([]string, error) {
	vars := variables(env)
	each := func(list []string) []string {
		out := make([]string, len(list))
		for i, text := range list {
			out[i] = expand(text, vars)
		}
		return out
	}
	command, args := each(c.Command), each(c.Args)
	if len(command) > 0 {
		return append(command, args...), nil
	}
	self := filepath.Join(programDir, filepath.Base(b.config.Program))
	switch program {
	case Web:
		return append([]string{self, webProgram}, listeners(c)...), nil // arguments are another server's
	case Pause:
		return []string{self, pauseProgram}, nil
	case Ingress:
		if _, err := os.Stat(b.config.Ingress); err != nil {
			return nil, fmt.Errorf("image %s: %w (build weft-ingress)", c.Image, err)
		}
		return append([]string{filepath.Join(programDir, filepath.Base(b.config.Ingress))}, args...), nil
	}
	if len(args) > 0 {
		return args, nil
	}
	return []string{"sh"}, nil
}

// listeners are the flags of the web server for a container's ports.
func listeners(c *corev1.Container) []string {
	var out []string
	for _, p := range c.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			out = append(out, "--listen", ":"+strconv.Itoa(int(p.ContainerPort)))
		}
	}
	return out
}

// mounts returns the volume mounts of a container.
func mounts(pod *corev1.Pod, c *corev1.Container, volumes, vars map[string]string) ([]mount, error) {
	var out []mount
	for _, m := range c.VolumeMounts {
		source, ok := volumes[m.Name]
		if !ok {
			return nil, fmt.Errorf("volumeMount %s: no such volume (%s)", m.Name, strings.Join(slices.Sorted(maps.Keys(volumes)), ", "))
		}
		sub := m.SubPath
		if m.SubPathExpr != "" {
			sub = expand(m.SubPathExpr, vars)
		}
		if sub != "" {
			if !filepath.IsLocal(sub) {
				return nil, fmt.Errorf("volumeMount %s: subPath %q: is not inside the volume", m.Name, sub)
			}
			source = filepath.Join(source, sub)
			if _, err := os.Stat(source); errors.Is(err, os.ErrNotExist) {
				if err := os.MkdirAll(source, 0o755); err != nil {
					return nil, err
				}
			}
		}
		out = append(out, mount{source, filepath.Join("/", m.MountPath), m.ReadOnly || readOnly(pod, m.Name)})
	}
	return out, nil
}

// readOnly says whether a volume's content is the API's.
func readOnly(pod *corev1.Pod, name string) bool {
	for _, v := range pod.Spec.Volumes {
		if v.Name == name {
			return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil
		}
	}
	return false
}

// identity returns the files by which a container knows its name and those of
// others.
func (b builder) identity(pod *corev1.Pod) map[string]string {
	hostname := hostnameOf(pod)
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, ip := range pod.Status.PodIPs {
		names := hostname
		if pod.Spec.Subdomain != "" {
			names = fmt.Sprintf("%s.%s.%s.svc.%s\t%s", hostname, pod.Spec.Subdomain, pod.Namespace, clusterDomain, hostname)
		}
		fmt.Fprintf(&hosts, "%s\t%s\n", ip.IP, names)
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&hosts, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return map[string]string{"/etc/hostname": hostname + "\n", "/etc/hosts": hosts.String(), "/etc/resolv.conf": b.resolver(pod)}
}

// clusterDomain is the DNS name that all Services' names end in.
const clusterDomain = "cluster.local"

func hostnameOf(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if name == "" {
		name, _, _ = strings.Cut(pod.Name, ".")
	}
	return name[:min(len(name), 63)]
}

// resolver returns resolv.conf(5) of a pod.
func (b builder) resolver(pod *corev1.Pod) string {
	var servers []netip.Addr
	var search, options []string
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && (len(b.config.DNS) == 0 || pod.Spec.HostNetwork) {
		policy = corev1.DNSDefault
	}
	var text strings.Builder
	switch policy {
	case corev1.DNSDefault:
		machine, err := os.ReadFile("/etc/resolv.conf")
		if err == nil {
			text.Write(machine)
			if len(machine) > 0 && machine[len(machine)-1] != '\n' {
				text.WriteByte('\n')
			}
		}
	case corev1.DNSNone:
	default:
		servers = b.config.DNS
		search = []string{pod.Namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain}
		options = []string{"ndots:5"}
	}
	for _, s := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", s)
	}
	if extra := pod.Spec.DNSConfig; extra != nil {
		for _, s := range extra.Nameservers {
			fmt.Fprintf(&text, "nameserver %s\n", s)
		}
		search = append(search, extra.Searches...)
		for _, o := range extra.Options {
			if o.Value != nil {
				options = append(options, o.Name+":"+*o.Value)
			} else {
				options = append(options, o.Name)
			}
		}
	}
	if len(search) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&text, "options %s\n", strings.Join(options, " "))
	}
	return text.String()
}
