// Package monitor finds out which members of load balancer pools take
// connections: by asking them (active monitors), and by the connections that
// failed (passive detection).
//
// State and Ban are what is known, as values; Targets says what a Set wants to
// be asked; Probe asks once; Ports are the devices that probes leave by; Runner
// does it all again and again.
//
// A member is up until Fall probes in a row failed, or MaxFails connections, so
// that a new pool takes connections at once. It is down as long as one of its
// monitors, or its pool's passive detection, finds it so; the latter takes no pool its
// last member.
package monitor
