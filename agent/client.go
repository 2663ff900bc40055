package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"golang.org/x/sys/unix"
)

// Client speaks to the agent behind a unix socket. Every method returns ErrGone
// if there is none.
type Client struct {
	Socket string
}

// ErrGone says that no agent listens.
var ErrGone = errors.New("the agent is not running")

// Apply makes t the node's tables and returns when they are in force. What was
// in force stays if there is an error.
func (c *Client) Apply(ctx context.Context, t *Tables) error {
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPut, tablesPath, body, nil)
}

// InForce returns what the node goes by.
func (c *Client) InForce(ctx context.Context) (*InForce, error) {
	f := &InForce{}
	return f, c.do(ctx, http.MethodGet, tablesPath, nil, f)
}

// Status returns how the node is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	s := &Status{}
	return s, c.do(ctx, http.MethodGet, statusPath, nil, s)
}

// do sends body and decodes the answer to to, unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, body []byte, to any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.dial}}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		refusal := &Refusal{}
		if json.Unmarshal(answer, refusal) == nil && refusal.Why != "" {
			return refusal
		}
		return fmt.Errorf("agent: %s", strings.TrimSpace(string(answer)))
	}
	if to == nil {
		return nil
	}
	if err := json.Unmarshal(answer, to); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	short, done, err := shortened(c.Socket)
	if err != nil {
		return nil, err
	}
	defer done()
	return new(net.Dialer).DialContext(ctx, "unix", short)
}
