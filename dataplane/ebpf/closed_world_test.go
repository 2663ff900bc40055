package ebpf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// What the workloads of a closedWorld ask for, by class.
const (
	classOut   = "out"   // udp: always let out
	classSYN   = "syn"   // tcp: likewise
	classLoud  = "loud"  // udp: let out iff Loud
	classGroup = "group" // udp: let out iff the sender is in Group
	classCross = "cross" // udp to b1: always let through
	classTorn  = "torn"  // udp to b1: one end of the way drops it, never the same for long
	classVIP   = "vip"   // udp to blue's virtual server, whose members are outside
	classOwn   = "own"   // udp to red's virtual server with a member outside, which would take red's inside addresses there
	classWrong = "wrong" // what nobody may send
)

// Where they ask for it.
var (
	closedFar   = netip.MustParseAddr("198.51.100.9")
	closedBlue  = netip.MustParseAddr("203.0.113.80")
	closedRed   = netip.MustParseAddr("203.0.113.81")
	closedB1    = netip.MustParseAddr("10.2.0.11")
	closedPorts = map[string]uint16{
		classOut: 5000, classSYN: 443, classLoud: 6000, classGroup: 6001, classCross: 5000, classTorn: 7100, classVIP: 8000, classOwn: 8000,
	}
)

// closedPort is a workload as the intent has it.
type closedPort struct {
	Addr netip.Addr
	MAC  string
}

// closedWorld is an intent: red hides behind Egress, or may not leave, blue is
// routed. r1 and r2 are red's workloads, b1 is blue's.
type closedWorld struct {
	Routed  bool   // red's own addresses are good for blue; a gateway rule keeps them in
	Egress  string // empty: there is no SNAT rule
	Loud    bool
	Torn    bool
	Group   string // workload
	Members []string
	Ports   map[string]closedPort
}

func (w closedWorld) clone() closedWorld {
	w.Members, w.Ports = slices.Clone(w.Members), maps.Clone(w.Ports)
	return w
}

// Of is red's or blue's workloads; a template has no other loop.
func (w closedWorld) Of(tenant string) map[string]closedPort {
	out := map[string]closedPort{}
	for name, p := range w.Ports {
		if strings.HasPrefix(name, tenant) {
			out[name] = p
		}
	}
	return out
}

// Few is the address that the rule for the group is about.
func (w closedWorld) Few() netip.Addr {
	if p, ok := w.Ports[w.Group]; ok {
		return p.Addr
	}
	return netip.MustParseAddr("10.9.9.9")
}

var closedIntent = template.Must(template.New("").Parse(`
{{- define "ports"}}
    children:
{{- range $name, $p := .}}
    - resource_type: ChildSegmentPort
      SegmentPort: {id: {{$name}}, address_bindings: [{ip_address: {{$p.Addr}}, mac_address: "{{$p.MAC}}"}]}
{{- end}}{{end}}
resource_type: Infra
children:
- resource_type: ChildTier0
  Tier0:
    id: t0
    children:
    - resource_type: ChildLocaleServices
      LocaleServices:
        id: default
        edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec
        children:
        - resource_type: ChildTier0Interface
          Tier0Interface: {id: up, type: EXTERNAL, subnets: [{ip_addresses: [192.0.2.2], prefix_len: 24}]}
    - resource_type: ChildStaticRoutes
      StaticRoutes: {id: default, network: 0.0.0.0/0, next_hops: [{ip_address: 192.0.2.1}]}
- resource_type: ChildTier1
  Tier1:
    id: red
    tier0_path: /infra/tier-0s/t0
    type: {{if .Routed}}ROUTED{{else}}NATTED{{end}}
    route_advertisement_types: [{{if .Routed}}TIER1_CONNECTED, {{end}}TIER1_NAT, TIER1_LB_VIP]
    children:
    - resource_type: ChildLocaleServices
      LocaleServices: {id: default, edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec}
{{- if .Egress}}
    - resource_type: ChildPolicyNat
      PolicyNat:
        id: USER
        children:
        - resource_type: ChildPolicyNatRule
          PolicyNatRule: {id: egress, action: SNAT, source_network: 10.1.0.0/24, translated_network: {{.Egress}}}
{{- end}}
- resource_type: ChildTier1
  Tier1:
    id: blue
    tier0_path: /infra/tier-0s/t0
    route_advertisement_types: [TIER1_CONNECTED, TIER1_LB_VIP]
    children:
    - resource_type: ChildLocaleServices
      LocaleServices: {id: default, edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec}
- resource_type: ChildSegment
  Segment:
    id: red
    connectivity_path: /infra/tier-1s/red
    subnets: [{gateway_address: 10.1.0.1/24}]
{{- template "ports" (.Of "r")}}
- resource_type: ChildSegment
  Segment:
    id: blue
    connectivity_path: /infra/tier-1s/blue
    subnets: [{gateway_address: 10.2.0.1/24}]
{{- template "ports" (.Of "b")}}
- resource_type: ChildLBAppProfile
  LBAppProfile: {id: udp, resource_type: LBFastUdpProfile}
- resource_type: ChildLBService
  LBService: {id: blue, connectivity_path: /infra/tier-1s/blue}
- resource_type: ChildLBService
  LBService: {id: red, connectivity_path: /infra/tier-1s/red}
- resource_type: ChildLBPool
  LBPool: {id: blue, snat_translation: {type: LBSnatDisabled}, members: [{{range $i, $m := .Members}}{{if $i}}, {{end}}{ip_address: {{$m}}}{{end}}]}
- resource_type: ChildLBPool
  LBPool: {id: red, snat_translation: {type: LBSnatDisabled}, members: [{ip_address: 198.51.100.83}]}
- resource_type: ChildLBVirtualServer
  LBVirtualServer: {id: blue, lb_service_path: /infra/lb-services/blue, ip_address: 203.0.113.80, ports: ["8000"], application_profile_path: /infra/lb-app-profiles/udp, pool_path: /infra/lb-pools/blue}
- resource_type: ChildLBVirtualServer
  LBVirtualServer: {id: red, lb_service_path: /infra/lb-services/red, ip_address: 203.0.113.81, ports: ["8000"], application_profile_path: /infra/lb-app-profiles/udp, pool_path: /infra/lb-pools/red}
- resource_type: ChildDomain
  Domain:
    id: default
    children:
    - resource_type: ChildGroup
      Group: {id: senders, expression: [{resource_type: PathExpression, paths: [/infra/segments/red]}]}
    - resource_type: ChildGroup
      Group: {id: receivers, expression: [{resource_type: PathExpression, paths: [/infra/segments/blue]}]}
    - resource_type: ChildGroup
      Group:
        id: few
        expression: [{resource_type: IPAddressExpression, ip_addresses: [{{.Few}}]}]
{{- if .Routed}}
    - resource_type: ChildGatewayPolicy
      GatewayPolicy:
        id: inside
        category: LocalGatewayRules
        rules:
        - {id: stays, action: DROP, direction: OUT, source_groups: [10.1.0.0/24], scope: [/infra/tier-0s/t0/locale-services/default/interfaces/up]}
{{- end}}
    - resource_type: ChildSecurityPolicy
      SecurityPolicy:
        id: closed
        category: Application
        rules:
        - {id: torn-out, sequence_number: 1, action: {{if .Torn}}ALLOW{{else}}DROP{{end}}, scope: [/infra/domains/default/groups/senders], service_entries: [{id: s, resource_type: L4PortSetServiceEntry, l4_protocol: UDP, destination_ports: ["7100"]}]}
        - {id: torn-in, sequence_number: 2, action: {{if .Torn}}DROP{{else}}ALLOW{{end}}, scope: [/infra/domains/default/groups/receivers], service_entries: [{id: s, resource_type: L4PortSetServiceEntry, l4_protocol: UDP, destination_ports: ["7100"]}]}
        - {id: loud, sequence_number: 3, action: {{if .Loud}}ALLOW{{else}}DROP{{end}}, service_entries: [{id: s, resource_type: L4PortSetServiceEntry, l4_protocol: UDP, destination_ports: ["6000"]}]}
        - {id: group, sequence_number: 4, action: ALLOW, source_groups: [/infra/domains/default/groups/few], service_entries: [{id: s, resource_type: L4PortSetServiceEntry, l4_protocol: UDP, destination_ports: ["6001"]}]}
        - {id: udp, sequence_number: 5, action: ALLOW, service_entries: [{id: s, resource_type: L4PortSetServiceEntry, l4_protocol: UDP, destination_ports: ["5000", "8000"]}]}
        - {id: tcp, sequence_number: 6, action: ALLOW, service_entries: [{id: s, resource_type: L4PortSetServiceEntry, l4_protocol: TCP, destination_ports: ["443"]}]}
        - {id: rest, sequence_number: 7, action: DROP}
`))

// set compiles the intent.
func (w closedWorld) set(t testing.TB) *table.Set {
	t.Helper()
	var body bytes.Buffer
	if err := closedIntent.Execute(&body, w); err != nil {
		t.Fatal(err)
	}
	changes, problems := intent.Parse("closed.yaml", body.Bytes())
	tree := intent.NewTree()
	_, more := tree.Apply(changes)
	sets, unable := compile.New().Update(tree, nil)
	for _, p := range slices.Concat(problems, more, unable) {
		if p.Severity == intent.Error {
			t.Fatal(p)
		}
		t.Log(p)
	}
	set := sets["host1"]
	w.fill(set)
	return set
}

// fill adds rows that other worlds lack, so that a change takes a while.
func (w closedWorld) fill(s *table.Set) {
	side := byte(crc32.ChecksumIEEE(fmt.Append(nil, w)))
	for id, port := range s.Ports.All() {
		if port.Name[0] != 'r' {
			continue
		}
		for i := range 600 {
			a := netip.AddrFrom4([4]byte{172, side, byte(i >> 8), byte(i)})
			s.Endpoints.Put(table.EndpointKey{Segment: port.Segment, Addr: a}, &table.Endpoint{Segment: port.Segment, Addr: a, Port: id, MAC: port.MAC})
		}
		return
	}
}

// sight is a packet as it was sent and as it is seen at a place.
type sight struct {
	at       string // workload; empty: outside
	who      string
	class    string
	inner    netip.Addr // source as sent
	src, dst netip.Addr // as seen
	port     uint16     // likewise, of the destination
}

func (s sight) String() string {
	place := s.at
	if place == "" {
		place = "outside"
	}
	return fmt.Sprintf("%s: %s of %s (%v): %v > %v:%d", place, s.class, s.who, s.inner, s.src, s.dst, s.port)
}

// sights lists all that may be seen while the intent is in force and the
// workloads of bound have devices.
func (w closedWorld) sights(bound map[string]bool) map[sight]bool {
	out := map[sight]bool{}
	for who, p := range w.Ports {
		src, leaves := p.Addr, true
		if who[0] == 'r' && w.Egress != "" {
			src = netip.MustParseAddr(w.Egress)
		} else if who[0] == 'r' {
			leaves = false
		}
		if !bound[who] {
			continue
		}
		see := func(at, class string, dst netip.Addr, port uint16) {
			out[sight{at, who, class, p.Addr, src, dst, port}] = true
		}
		if to, ok := w.Ports["b1"]; ok && (leaves || w.Routed) && who != "b1" && bound["b1"] && to.Addr == closedB1 {
			see("b1", classCross, closedB1, 5000)
		}
		if !leaves {
			continue
		}
		see("", classOut, closedFar, 5000)
		see("", classSYN, closedFar, 443)
		if w.Loud {
			see("", classLoud, closedFar, 6000)
		}
		if w.Group == who {
			see("", classGroup, closedFar, 6001)
		}
		for _, m := range w.Members {
			see("", classVIP, netip.MustParseAddr(m), 8000)
		}
		if who == "b1" { // red has no way for its own that does not show their addresses
			see("", classOwn, netip.MustParseAddr("198.51.100.83"), 8000)
		}
	}
	return out
}

// sender is a workload that tries everything.
type sender struct {
	who   string
	own   netip.Addr
	mac   packet.MAC
	fd    int
	round int
}

// send sends one packet of each class, and what it may not.
func (s *sender) send() {
	s.round++
	for class, port := range closedPorts {
		for _, sport := range []uint16{900, 1024 + uint16(s.round%30000)} {
			p := packet.Spec{
				EthSrc: s.mac, EthDst: packet.MAC(table.RouterMAC), TTL: 64, Proto: packet.UDP, Src: s.own, Dst: closedFar,
				SrcPort: sport, DstPort: port, Payload: marked(s.who, class, s.own),
			}
			switch class {
			case classSYN:
				p.Proto, p.Flags = packet.TCP, packet.SYN
			case classCross, classTorn:
				p.Dst = closedB1
			case classVIP:
				p.Dst = closedBlue
			case classOwn:
				p.Dst = closedRed
			}
			unix.Write(s.fd, packet.Build(p)) // the device may be gone
		}
	}
	for _, f := range s.wrong() {
		unix.Write(s.fd, f)
	}
	time.Sleep(8 * time.Millisecond)
}

// wrong returns frames that may never be seen anywhere: with the addresses of
// others, for the host's own stack, of kinds that are not carried.
func (s *sender) wrong() (frames [][]byte) {
	everybody, a := packet.MAC{255, 255, 255, 255, 255, 255}, netip.MustParseAddr
	send := func(src, dst string, change func(*packet.Spec)) {
		for _, to := range []packet.MAC{packet.MAC(table.RouterMAC), everybody} {
			p := packet.Spec{
				EthSrc: s.mac, EthDst: to, TTL: 64, Proto: packet.UDP, Src: a(src), Dst: a(dst), SrcPort: 900, DstPort: 5000,
				Payload: marked(s.who, classWrong, a(src)),
			}
			change(&p)
			frames = append(frames, packet.Build(p))
		}
	}
	plain := func(*packet.Spec) {}
	echo := func(p *packet.Spec) { p.Proto, p.ICMPType = packet.ICMP, packet.ICMPEchoRequest }
	for _, src := range []string{"10.1.0.99", "10.2.0.99", "203.0.113.10", "203.0.113.80", "192.0.2.2", "192.0.2.1", "198.51.100.9"} {
		send(src, "198.51.100.7", plain)
		send(src, "192.0.2.2", echo) // by a forged source the host's own answer would leave by the uplink
		send(src, "192.0.2.2", func(p *packet.Spec) { p.Proto, p.Flags = packet.TCP, packet.SYN })
	}
	send(s.own.String(), "224.0.0.251", plain)
	send(s.own.String(), "255.255.255.255", plain)
	send(s.own.String(), "198.51.100.9", func(p *packet.Spec) { p.EtherType = packet.EtherTypeIPv6 })
	for _, target := range []string{"192.0.2.1", "192.0.2.2", "10.2.0.11"} {
		frames = append(frames, packet.Build(packet.Spec{EthSrc: s.mac, EthDst: everybody, ARP: &packet.ARP{
			Op: packet.ARPRequest, SenderMAC: s.mac, Sender: s.own, Target: a(target),
		}}))
	}
	return frames
}

// closedEnv makes the test binary a process that applies one Set; its value is
// the file of a closedOrder.
const closedEnv = "WEFT_TEST_CLOSED"

type closedOrder struct {
	Dir     string
	Binding dataplane.Binding
	Set     json.RawMessage
}

// runClosed applies what a file says, and writes one byte before that.
func runClosed(file string) error {
	var o closedOrder
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	set, err := table.Decode(o.Set)
	if err != nil {
		return err
	}
	if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
		return err
	}
	d, err := Open(o.Dir)
	if err != nil {
		return err
	}
	return d.Apply(context.Background(), set, o.Binding)
}
