package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// Times of a heartbeat. The lease says that the node lives, its status how it is.
const (
	leaseTime  = 3 * time.Second
	statusTime = 20 * time.Second
	leaseLife  = 12 // seconds
)

// kubeletVersion is what the node says of itself: the Kubernetes whose ways it follows.
const kubeletVersion = "v1.37.1-weft"

// heartbeat registers the node and tells the API that it lives until ctx ends.
// The API may be away.
func (k *Kubelet) heartbeat(ctx context.Context, port int32) {
	var told time.Time
	ready, uid := false, types.UID("")
	for {
		now := k.networkProblem() == ""
		if now != ready || time.Since(told) >= statusTime {
			limit, cancel := context.WithTimeout(ctx, 10*time.Second)
			id, err := k.register(limit, port)
			cancel()
			if err == nil {
				told, ready, uid = time.Now(), now, id
			} else if ctx.Err() == nil {
				k.log.Warn("node: status", "error", err)
			}
		}
		if uid != "" {
			limit, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := k.renew(limit, uid); err != nil && ctx.Err() == nil {
				k.log.Warn("node: lease", "error", err)
				if apierrors.IsNotFound(err) {
					told = time.Time{}
				}
			}
			cancel()
		}
		wait := leaseTime
		if !ready {
			wait = 500 * time.Millisecond // until it is ready for the first time, or again
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// networkProblem says why pods could not be attached; empty: they can.
func (k *Kubelet) networkProblem() string {
	if _, err := k.sandboxes.network(); err != nil {
		return err.Error()
	}
	return ""
}

// register makes the node object be as the node is, and returns its UID.
func (k *Kubelet) register(ctx context.Context, port int32) (types.UID, error) {
	nodes := k.client.CoreV1().Nodes()
	have, err := nodes.Get(ctx, k.config.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		made := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.config.Name, Labels: k.labels()}}
		k.fill(&made.Status, port)
		if have, err = nodes.Create(ctx, made, metav1.CreateOptions{}); err == nil {
			k.recorder.Event(have, corev1.EventTypeNormal, "Starting", "Starting kubelet")
		}
	}
	if err != nil {
		return "", err
	}
	want := have.DeepCopy()
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	maps.Copy(want.Labels, k.labels())
	if err := k.patch(ctx, have, want); err != nil {
		return "", err
	}
	k.fill(&want.Status, port)
	return have.UID, k.patch(ctx, have, want, "status")
}

func (k *Kubelet) patch(ctx context.Context, have, want *corev1.Node, subresources ...string) error {
	before, after := &corev1.Node{}, &corev1.Node{}
	if len(subresources) == 0 {
		before.Labels, after.Labels = have.Labels, want.Labels
	} else {
		before.Status, after.Status = have.Status, want.Status
	}
	old, err := json.Marshal(before)
	if err != nil {
		return err
	}
	next, err := json.Marshal(after)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(old, next, corev1.Node{})
	if err != nil || string(patch) == "{}" {
		return err
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, k.config.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, subresources...)
	return err
}

func (k *Kubelet) labels() map[string]string {
	out := map[string]string{
		corev1.LabelHostname: k.config.Name, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
	}
	maps.Copy(out, k.config.Labels)
	return out
}

// fill writes how the node is over a status.
func (k *Kubelet) fill(s *corev1.NodeStatus, port int32) {
	s.Capacity = capacity(k.config.MaxPods)
	s.Allocatable = s.Capacity
	s.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: k.config.hostIP()}, {Type: corev1.NodeHostName, Address: k.config.Name},
	}
	s.DaemonEndpoints.KubeletEndpoint.Port = port
	s.NodeInfo = corev1.NodeSystemInfo{
		KubeletVersion: kubeletVersion, OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		KernelVersion: kernel(), OSImage: "weft lab", ContainerRuntimeVersion: "weft://1",
		MachineID: firstLine("/etc/machine-id"), BootID: firstLine("/proc/sys/kernel/random/boot_id"),
	}
	is := func(kind corev1.NodeConditionType, yes bool, reason, message string) {
		c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastHeartbeatTime: metav1.Now().Rfc3339Copy()}
		if yes {
			c.Status = corev1.ConditionTrue
		}
		setNodeCondition(s, c)
	}
	is(corev1.NodeMemoryPressure, false, "KubeletHasSufficientMemory", "memory is not watched")
	is(corev1.NodeDiskPressure, false, "KubeletHasNoDiskPressure", "disks are not watched")
	is(corev1.NodePIDPressure, false, "KubeletHasSufficientPID", "processes are not counted")
	if problem := k.networkProblem(); problem != "" {
		is(corev1.NodeReady, false, "KubeletNotReady", problem)
	} else {
		is(corev1.NodeReady, true, "KubeletReady", "kubelet is posting ready status")
	}
}

func setNodeCondition(s *corev1.NodeStatus, c corev1.NodeCondition) {
	c.LastTransitionTime = c.LastHeartbeatTime
	for i, have := range s.Conditions {
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		s.Conditions[i] = c
		return
	}
	s.Conditions = append(s.Conditions, c)
}

// renew says that the node lives.
func (k *Kubelet) renew(ctx context.Context, uid types.UID) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, life := metav1.NowMicro(), int32(leaseLife)
	have, err := leases.Get(ctx, k.config.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: k.config.Name, OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: k.config.Name, UID: uid},
			}},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &k.config.Name, LeaseDurationSeconds: &life, RenewTime: &now},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	have.Spec.HolderIdentity, have.Spec.LeaseDurationSeconds, have.Spec.RenewTime = &k.config.Name, &life, &now
	_, err = leases.Update(ctx, have, metav1.UpdateOptions{})
	return err
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return string(line)
}

func kernel() string { return firstLine("/proc/sys/kernel/osrelease") }

// machineMemory returns the bytes of memory of the machine; 1 GiB if it does
// not say.
func machineMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 1 << 30
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 1 << 30
}
