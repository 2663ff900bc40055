package wire

import (
	"strings"
	"time"
)

// ServerName is the name that a server's certificate must have, whatever its
// address is.
const ServerName = "weftd"

// agentPrefix begins the common name of an agent's certificate.
const agentPrefix = "agent:"

// AgentName returns the common name of the certificate of a node's agent.
func AgentName(node string) string { return agentPrefix + node }

// NodeOf returns the node of a common name that AgentName made.
func NodeOf(commonName string) (node string, ok bool) {
	return strings.CutPrefix(commonName, agentPrefix)
}

// MaxPart bounds the data of one part of an Update, in bytes. Messages may have
// as much, and some for the rest.
const MaxPart = 1 << 20

// Each side asks the other whether it is there after KeepaliveTime of silence,
// and gives it KeepaliveTimeout to answer.
const (
	KeepaliveTime    = 10 * time.Second
	KeepaliveTimeout = 5 * time.Second
)
