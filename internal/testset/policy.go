package testset

import (
	"net/netip"

	"github.com/weft-net/weft/table"
)

func (s set) nat() {
	s.rows(Red, table.NATOut,
		row(NATRedLocal, "NO_SNAT", "", "10.0.0.0/8", ""),
		row(NATRedDB, "NO_SNAT", "10.1.2.0/24", "", ""),
		oneToOne(row(NATWeb3, "REFLEXIVE", "10.1.1.30/32", "", "203.0.113.18/32")),
		block(row(NATRed, "SNAT", "10.1.1.0/24", "", "203.0.113.16/32"), 1024, 1027),
	)
	s.rows(Red, table.NATIn,
		service(row(NATRedWeb, "DNAT", "", "203.0.113.17/32", "10.1.1.10/32"), table.Service{Proto: 6, First: 80, Last: 80}, 8080),
		oneToOne(row(NATWeb3, "REFLEXIVE", "", "203.0.113.18/32", "10.1.1.30/32")),
		row(NATRedNone, "NO_DNAT", "", "203.0.113.19/32", ""),
	)
	s.rows(Blue, table.NATOut,
		oneToOne(row(NATBlueLow, "SNAT", "10.1.1.0/28", "", "203.0.113.48/28")),
		row(NATBlue, "SNAT", "10.1.1.0/24", "", "203.0.113.32/30"),
	)
	s.rows(Blue, table.NATIn,
		oneToOne(row(NATBlueLow, "DNAT", "", "203.0.113.48/28", "10.1.1.0/28")),
	)
	west := oneToOne(row(NATWest, "SNAT", "203.0.113.16/28", "", "198.51.100.16/28"))
	west.Iface = UplinkWest
	s.rows(T0, table.NATOut, west)
	east := row(NATEast, "DNAT", "", "192.0.2.100/32", "203.0.113.17/32")
	east.Iface = UplinkEast
	s.rows(T0, table.NATIn, east)
	s.rows(Node, table.NATOut,
		row(NATPods, "NO_SNAT", "", "10.200.0.0/16", ""),
		block(row(NATEgress, "SNAT", "10.200.1.11/32", "", "10.1.1.21/32"), 32768, 60999),
		block(row(NATMasquerade, "SNAT", "10.200.1.0/24", "", "10.1.1.20/32"), 32768, 60999),
	)
	s.rows(Node, table.NATIn,
		service(row(NATNodePort, "DNAT", "", "10.1.1.20/32", "10.200.1.10/32"), table.Service{Proto: 6, First: 30080, Last: 30080}, 80),
	)
}

func (s set) rows(vrf table.VRFID, dir table.NATDir, rules ...table.NATRule) {
	k := table.NATKey{VRF: vrf, Dir: dir}
	s.NAT.Put(k, &table.NATList{Key: k, Rules: rules})
}

// row returns a NAT row; an empty src or dst is any, an empty pool an exemption.
func row(id uint32, kind, src, dst, to string) table.NATRule {
	r := table.NATRule{ID: id, Type: kind, Name: kind, Action: table.NATTranslate, Src: anyOr(src), Dst: anyOr(dst), To: anyOr(to)}
	if to == "" {
		r.Action = table.NATExempt
	}
	return r
}

func anyOr(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func oneToOne(r table.NATRule) table.NATRule {
	r.OneToOne = true
	return r
}

func block(r table.NATRule, first, last uint16) table.NATRule {
	r.PortFirst, r.PortLast = first, last
	return r
}

func service(r table.NATRule, s table.Service, toPort uint16) table.NATRule {
	r.Service, r.ToPort = s, toPort
	return r
}

func (s set) firewall() {
	s.addrs(SetQuarantine, "quarantine", table.AnyRealm, "192.0.2.66/32")
	s.addrs(SetQuarantine, "quarantine", RealmRed, "10.1.1.11/32")
	s.addrs(SetDBs, "dbs", RealmRed, "10.1.2.0/24")
	s.addrs(SetRedWeb, "red-web", RealmRed, "10.1.1.0/24")
	s.addrs(SetInside, "inside", table.AnyRealm, "10.0.0.0/8")

	s.rules(RulesEmergency,
		table.Rule{ID: RuleQuarantine, Category: "Emergency", Action: table.Drop, Remote: []table.AddrSetID{SetQuarantine}},
		table.Rule{ID: RuleNoMail, Category: "Emergency", Action: table.Reject, AnyRemote: true, Services: services(6, 25, 25, 17, 25, 25)},
		table.Rule{ID: RuleJump, Category: "Environment", Action: table.Continue, Remote: []table.AddrSetID{SetDBs}, Services: services(6, 3306, 3306)},
		table.Rule{ID: RuleNoProtocol, Category: "Environment", Action: table.Drop, AnyRemote: true, Services: services(6, 3306, 3306)},
	)
	s.rules(RulesWebOut,
		table.Rule{ID: RuleStrict, Category: "Application", Action: table.Allow, AnyRemote: true, Services: services(6, 1000, 1999), Strict: true},
		table.Rule{ID: RuleNoSSHOut, Category: "Application", Action: table.Drop, NotRemote: true, Remote: []table.AddrSetID{SetInside, SetDBs}, Services: services(6, 22, 22)},
		table.Rule{ID: RuleWebOut, Category: "Application", Action: table.Allow, AnyRemote: true},
	)
	s.rules(RulesWebIn,
		table.Rule{ID: RuleWebIn, Category: "Application", Action: table.Allow, AnyRemote: true, Services: services(6, 80, 80, 6, 1000, 1999, 6, 8080, 8080, 17, 5000, 5010)},
		table.Rule{ID: RulePing, Category: "Application", Action: table.Allow, AnyRemote: true, Services: services(1, 8<<8, 8<<8)},
		table.Rule{ID: RuleFromRed, Category: "Application", Action: table.Allow, Remote: []table.AddrSetID{SetRedWeb}},
	)
	s.rules(RulesDBIn,
		table.Rule{ID: RuleDB, Category: "Application", Action: table.Allow, Remote: []table.AddrSetID{SetRedWeb}, Services: services(6, 3306, 3306)},
		table.Rule{ID: RuleNoAdmin, Category: "Application", Action: table.Reject, AnyRemote: true, Services: services(6, 3307, 3307)},
		table.Rule{ID: RulePing, Category: "Application", Action: table.Allow, AnyRemote: true, Services: services(1, 8<<8, 8<<8)},
	)
	s.rules(RulesDMZIn,
		table.Rule{ID: RuleFromRed, Category: "Application", Action: table.Allow, Remote: []table.AddrSetID{SetRedWeb}},
		table.Rule{ID: RuleWebIn, Category: "Application", Action: table.Allow, AnyRemote: true, Services: services(6, 80, 80)},
	)
	s.rules(RulesAny, table.Rule{ID: RuleAny, Category: "Application", Action: table.Allow, AnyRemote: true, Services: services(0, 0, 65535)})

	for _, a := range []string{"10.1.1.10", "10.1.1.11", "10.1.1.30"} {
		e := s.Endpoints.Get(table.EndpointKey{Segment: Web, Addr: addr(a)})
		e.Out, e.In = []table.RulesetID{RulesEmergency, RulesWebOut}, []table.RulesetID{RulesWebIn}
	}
	s.Endpoints.Get(table.EndpointKey{Segment: DB, Addr: addr("10.1.2.10")}).In = []table.RulesetID{RulesDBIn}
	s.Endpoints.Get(table.EndpointKey{Segment: DMZ, Addr: addr("172.16.3.10")}).In = []table.RulesetID{RulesDMZIn}
	excluded := s.Endpoints.Get(table.EndpointKey{Segment: DB, Addr: addr("10.1.2.11")})
	excluded.Out, excluded.In, excluded.Unfiltered = nil, nil, true
}

func (s set) addrs(id table.AddrSetID, name string, realm table.RealmID, ps ...string) {
	a := s.AddrSets.Get(id)
	if a == nil {
		a = &table.AddrSet{ID: id, Path: "/infra/domains/default/groups/" + name, Name: name}
		s.AddrSets.Put(id, a)
	}
	for _, p := range prefixes(ps...) {
		a.Addrs = append(a.Addrs, table.RealmPrefix{Realm: realm, Prefix: p})
	}
}

func (s set) rules(id table.RulesetID, rules ...table.Rule) {
	rs := &table.Ruleset{ID: id}
	for _, r := range rules {
		r.Path = "/infra/domains/default/security-policies/test"
		rs.Rules = append(rs.Rules, &r)
	}
	s.Rulesets.Put(id, rs)
}

// services returns one Service for each protocol, first and last number.
func services(nums ...uint16) []table.Service {
	var ss []table.Service
	for ; len(nums) > 0; nums = nums[3:] {
		ss = append(ss, table.Service{Proto: uint8(nums[0]), First: nums[1], Last: nums[2]})
	}
	return ss
}
