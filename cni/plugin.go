// Package cni attaches pods as a CNI plugin. Every verb is one request to the
// node's agent, which does the work; only DEL goes on without one.
//
// Source: CNI specification 1.1.0.
package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/agent"
)

// about is what people see who start the plugin by hand.
const about = "weft-cni attaches pods to their ports by the agent of the node; a container runtime calls it"

// answerTime is how long the agent may take beside the wait for a port.
const answerTime = 15 * time.Second

// Main is the plugin as a program: it does what CNI_COMMAND says and returns the
// exit code. Called loopback, it is the plugin of that name.
func Main(name string, stdout io.Writer) int {
	verbs := skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc, Status: status}
	if name == "loopback" {
		verbs = skel.CNIFuncs{Add: addLoopback, Check: checkLoopback, Del: ignore, GC: ignore, Status: ignore}
	}
	err := skel.PluginMainFuncsWithError(verbs, version.PluginSupports("0.3.1", "0.4.0", "1.0.0", "1.1.0"), about)
	if err == nil {
		return 0
	}
	json.NewEncoder(stdout).Encode(err)
	return 1
}

func ignore(*skel.CmdArgs) error { return nil }

func add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	q, err := c.attachment(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout+answerTime)
	defer cancel()
	w, err := c.client.Attach(ctx, q, c.timeout)
	if err != nil {
		return c.failed(err)
	}
	result, err := resultOf(c, w)
	if err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

func del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	err = c.client.Detach(ctx, key(args))
	if errors.Is(err, agent.ErrGone) {
		err = agent.RemovePair(args.Netns, key(args))
	}
	return c.failed(err)
}

func check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if c.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "network "+c.Name+": prevResult: is missing (the result of ADD)", "")
	}
	q, err := c.attachment(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	return c.failed(c.client.CheckAttachment(ctx, q))
}

func gc(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	const field = "cni.dev/valid-attachments"
	var given map[string]json.RawMessage
	if err := json.Unmarshal(args.StdinData, &given); err != nil {
		return types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	if _, ok := given[field]; !ok {
		return types.NewError(types.ErrInvalidNetworkConfig, "network "+c.Name+": "+field+": is missing (a list; empty: none is valid)", "")
	}
	valid := make([]agent.AttachmentKey, 0, len(c.ValidAttachments))
	for _, a := range c.ValidAttachments {
		valid = append(valid, agent.AttachmentKey{Container: a.ContainerID, Interface: a.IfName})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return c.failed(c.client.KeepAttachments(ctx, c.Name, valid))
}

func status(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	_, ready, err := c.client.Attachments(ctx)
	switch {
	case err != nil:
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), "socket "+c.client.Socket)
	case !ready:
		return types.NewError(types.ErrLimitedConnectivity, "the agent got no tables yet", "socket "+c.client.Socket)
	}
	return nil
}

// Error codes of this plugin's own; below 100 they are CNI's.
const (
	codePortIncomplete uint = 100 + iota
	codeInterfaceTaken
	codeDiffers
)

// codes are those of refusals.
func code(w agent.Why) uint {
	switch w {
	case agent.Malformed:
		return types.ErrInvalidNetworkConfig
	case agent.Unknown:
		return types.ErrUnknownContainer
	case agent.NoNamespace:
		return types.ErrInvalidNetNS
	case agent.NoTables, agent.PortMissing, agent.PortTaken, agent.Interrupted:
		return types.ErrTryAgainLater
	case agent.PortIncomplete:
		return codePortIncomplete
	case agent.InterfaceTaken:
		return codeInterfaceTaken
	case agent.Differs:
		return codeDiffers
	}
	return types.ErrInternal
}

// failed makes a CNI error of one that speaking to the agent gave.
func (c *conf) failed(err error) error {
	if err == nil {
		return nil
	}
	where := fmt.Sprintf("network %s, socket %s", c.Name, c.client.Socket)
	if r, ok := errors.AsType[*agent.Refusal](err); ok {
		return types.NewError(code(r.Why), r.Message, string(r.Why)+"; "+where)
	}
	if errors.Is(err, agent.ErrGone) || errors.Is(err, context.DeadlineExceeded) {
		return types.NewError(types.ErrTryAgainLater, err.Error(), where)
	}
	return types.NewError(types.ErrInternal, err.Error(), where)
}
