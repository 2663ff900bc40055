package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// gone says whether an error means that a pod is not in the API any more, or is
// another one of that name.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// report tells the API how the pod is, if it does not know.
func (p *pod) report(ctx context.Context, api *corev1.Pod) error {
	want := api.DeepCopy()
	p.fill(&want.Status, api)
	patch, err := statusPatch(api, want)
	if err != nil || patch == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	made, err := p.node.client.CoreV1().Pods(api.Namespace).Patch(ctx, api.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if gone(err) {
		return nil // the watch tells
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.api.UID == made.UID && !p.gone && p.api.ResourceVersion == api.ResourceVersion {
		p.api = made
	}
	return nil
}

// statusPatch returns what makes have's status that of want; nil: nothing.
func statusPatch(have, want *corev1.Pod) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: have.Status})
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(corev1.Pod{Status: want.Status})
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil || string(patch) == "{}" {
		return nil, err
	}
	var body map[string]any
	if err := json.Unmarshal(patch, &body); err != nil {
		return nil, err
	}
	body["metadata"] = map[string]any{"uid": have.UID} // of this pod, not another one of its name
	return json.Marshal(body)
}

// fill writes what this node knows of a pod over a status. What others wrote
// stays.
func (p *pod) fill(s *corev1.PodStatus, api *corev1.Pod) {
	s.ObservedGeneration = api.Generation
	if s.StartTime == nil {
		now := metav1.Now().Rfc3339Copy()
		s.StartTime = &now
	}
	if p.record.Sandbox != nil || s.HostIP == "" {
		p.addresses(s)
	}
	if s.Phase != corev1.PodFailed && s.Phase != corev1.PodSucceeded { // which are for ever
		s.Phase = p.phase(api)
	}
	s.InitContainerStatuses, s.ContainerStatuses = nil, nil
	for i := range api.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, p.containerStatus(api, &api.Spec.InitContainers[i], true))
	}
	for i := range api.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, p.containerStatus(api, &api.Spec.Containers[i], false))
	}
	p.conditions(s, api)
}

// phase returns the phase of a pod.
func (p *pod) phase(api *corev1.Pod) corev1.PodPhase {
	if api.Status.Phase == corev1.PodFailed || api.Status.Phase == corev1.PodSucceeded {
		return api.Status.Phase
	}
	for i := range api.Spec.InitContainers {
		c := &api.Spec.InitContainers[i]
		r := p.record.container(c.Name)
		if !sidecar(c) && r.Now != nil && !r.Now.Running && r.Now.Exit != 0 && api.Spec.RestartPolicy == corev1.RestartPolicyNever {
			return corev1.PodFailed
		}
	}
	policy := api.Spec.RestartPolicy
	if api.DeletionTimestamp != nil {
		policy = corev1.RestartPolicyNever // nothing starts again
	}
	begun, running, failed := 0, 0, 0
	for i := range api.Spec.Containers {
		r := p.record.container(api.Spec.Containers[i].Name)
		switch {
		case r.Now == nil:
			continue
		case r.Now.Running || !done(r.Now, policy):
			running++
		case r.Now.Exit != 0:
			failed++
		}
		begun++
	}
	switch {
	case begun < len(api.Spec.Containers) && running == 0:
		return corev1.PodPending
	case begun < len(api.Spec.Containers) || running > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

func (p *pod) containerStatus(api *corev1.Pod, c *corev1.Container, isInit bool) corev1.ContainerStatus {
	r := p.record.container(c.Name)
	started, ready := p.checked(c)
	if isInit && !sidecar(c) {
		ready, started = p.initDone(c) || r.Now != nil && !r.Now.Running && r.Now.Exit == 0, false
	}
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, RestartCount: int32(r.restarts()), Ready: ready, Started: &started,
	}
	if program, err := p.node.config.Images.Find(c.Image); err == nil && r.Now != nil {
		s.ImageID = "weft://" + program
	}
	if r.Now != nil {
		s.ContainerID = "weft://" + r.Now.ID
	}
	if r.Last != nil {
		s.LastTerminationState = terminated(r.Last)
	}
	wait, waits := p.waiting[c.Name]
	switch {
	case r.running():
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(r.Now.Started)}
	case waits && api.DeletionTimestamp == nil:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: wait.reason, Message: wait.message}
		if r.Now != nil {
			s.LastTerminationState = terminated(r.Now)
		}
	case r.Now != nil:
		s.State = terminated(r.Now)
	case len(api.Spec.InitContainers) > 0 && !isInit:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonInit}
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonCreating}
	}
	return s
}

// terminated returns a run that ended in the API's words.
func terminated(s *state) corev1.ContainerState {
	reason := "Error"
	switch {
	case s.Failure != "" && s.Exit == 128:
		reason = "StartError"
	case s.Exit == 0:
		reason = "Completed"
	}
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: int32(s.Exit), Signal: int32(s.Signal), Reason: reason, Message: s.Failure,
		StartedAt: metav1.NewTime(s.Started), FinishedAt: metav1.NewTime(s.Finished), ContainerID: "weft://" + s.ID,
	}}
}

// conditions sets the conditions that are a kubelet's.
func (p *pod) conditions(s *corev1.PodStatus, api *corev1.Pod) {
	ended := s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	var notInit, notReady []string
	for _, c := range s.InitContainerStatuses {
		if !c.Ready && !p.initialized() {
			notInit = append(notInit, c.Name)
		}
	}
	for _, c := range s.ContainerStatuses {
		if !c.Ready {
			notReady = append(notReady, c.Name)
		}
	}
	is := func(kind corev1.PodConditionType, ok bool, reason, message string) {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, ObservedGeneration: api.Generation}
		if !ok {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
		setCondition(s, c)
	}
	completed := ""
	if s.Phase == corev1.PodSucceeded {
		completed = "PodCompleted"
	}
	reason := func(otherwise string) string {
		if completed != "" {
			return completed
		}
		return otherwise
	}
	box := p.record.Sandbox
	is(corev1.PodReadyToStartContainers, box != nil && box.PID != 0, "", "")
	is(corev1.PodInitialized, len(notInit) == 0, "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(notInit, " ")))
	unready := fmt.Sprintf("containers with unready status: [%s]", strings.Join(notReady, " "))
	ready := len(notReady) == 0 && !ended
	is(corev1.ContainersReady, ready, reason("ContainersNotReady"), unready)
	for _, gate := range api.Spec.ReadinessGates {
		at := slices.IndexFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
		if ready && (at < 0 || s.Conditions[at].Status != corev1.ConditionTrue) {
			is(corev1.PodReady, false, "ReadinessGatesNotReady", fmt.Sprintf("condition %s is not true", gate.ConditionType))
			return
		}
	}
	is(corev1.PodReady, ready, reason("ContainersNotReady"), unready)
}

// setCondition replaces a condition; its time changes with its status alone.
func setCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	c.LastTransitionTime = metav1.Now().Rfc3339Copy()
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
