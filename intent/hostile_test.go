package intent

import (
	"strings"
	"testing"
)

// refusals demands that each body is refused, with one problem whose text ends
// so.
func refusals(t *testing.T, rows map[string]string) {
	t.Helper()
	for text, want := range rows {
		changes, problems := Parse("f", []byte(text))
		if !HasErrors(problems) {
			_, more := tree(t, red).Apply(changes)
			problems = append(problems, more...)
		}
		if len(problems) != 1 || problems[0].Severity != Error || !strings.HasSuffix(problems[0].String(), want) {
			t.Errorf("%s%v, want one problem: %s", text, problems, want)
		}
	}
}

// Nobody has the address of a load balancer's monitors, which the gateway
// firewall lets pass.
func TestHostileMonitorAddresses(t *testing.T) {
	const is, overlaps = ": is of 169.254.255.0/30, where the monitors of load balancers are", ": overlaps 169.254.255.0/30, where the monitors of load balancers are"
	refusals(t, map[string]string{
		port(binding("169.254.255.2", "02:00:00:00:00:09")):                                                     "address_bindings[0].ip_address: 169.254.255.2" + is,
		port(binding("169.254.255.1", "02:00:00:00:00:09")):                                                     "address_bindings[0].ip_address: 169.254.255.1" + is,
		segment("id: s, connectivity_path: /infra/tier-1s/red, subnets: [{gateway_address: 169.254.255.1/24}]"): "subnets[0].gateway_address: 169.254.255.1/24" + overlaps,
		segment("id: s, connectivity_path: /infra/tier-1s/red, subnets: [{gateway_address: 169.254.255.2/30}]"): "subnets[0].gateway_address: 169.254.255.2/30" + overlaps,
	})
	changes, problems := Parse("f", []byte(port(binding("169.254.255.4", "02:00:00:00:00:09"))))
	if _, more := tree(t, red).Apply(changes); len(problems)+len(more) > 0 {
		t.Errorf("an address beside it: %v %v", problems, more)
	}
}

// A monitor asks one request, not what its text makes of it.
func TestHostileMonitorText(t *testing.T) {
	monitor := func(kind, fields string) string {
		return infra("- {resource_type: ChildLBMonitorProfile, LBMonitorProfile: {resource_type: " + kind + ", id: m, " + fields + "}}")
	}
	refusals(t, map[string]string{
		monitor("LBHttpMonitorProfile", `request_url: "/a HTTP/1.1\r\nHost: x\r\n\r\nDELETE /b"`):           "contains a space or line break (such as /health)",
		monitor("LBHttpsMonitorProfile", `request_url: "/a\nX: y"`):                                         "contains a space or line break (such as /health)",
		monitor("LBHttpMonitorProfile", `request_headers: [{header_name: X, header_value: "a\r\nY: b"}]`):   "contains a line break",
		monitor("LBHttpMonitorProfile", `request_headers: [{header_name: "X: a\r\nY", header_value: "b"}]`): "is not the name of a header (such as Host)",
		monitor("LBHttpsMonitorProfile", `server_name: "a\r\nX: y"`):                                        `server_name: "a\r\nX: y": contains a line break`,
		monitor("LBHttpMonitorProfile", `request_method: "GET / HTTP/1.1\r\nX:"`):                           "(GET, OPTIONS, POST, HEAD, PUT)",
	})
}
