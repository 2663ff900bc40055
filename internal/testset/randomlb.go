package testset

import (
	"math/rand/v2"
	"net/netip"

	"github.com/weft-net/weft/table"
)

// Rulesets that RandomLB adds.
const (
	gatewayRulesets table.RulesetID = 901 // and the following
	accessRulesets  table.RulesetID = 951
)

// RandomLB returns WithLB's Set with everything about load balancers and
// gateway firewalls as r decides, members' health too.
func RandomLB(r *rand.Rand) *table.Set {
	s := randomLB{WithLB(), r}
	for id := PoolSrv; id <= PoolCluster; id++ {
		s.pool(s.Pools.Get(id))
	}
	for _, k := range []table.VIPKey{{VRF: Red, Addr: VIPRed}, {VRF: T0, Addr: VIPTop}, {DLB: DLB, Addr: VIPCluster}} {
		for _, v := range s.VIPs.Get(k).Servers {
			s.server(v)
		}
	}
	s.gateways()
	for _, k := range []table.NATKey{{VRF: Red, Dir: table.NATOut}, {VRF: Red, Dir: table.NATIn}, {VRF: Blue, Dir: table.NATOut}, {VRF: Blue, Dir: table.NATIn}} {
		if l := s.NAT.Get(k); l != nil {
			for i := range l.Rules {
				l.Rules[i].Match = table.FirewallMatch(r.IntN(3))
			}
		}
	}
	s.via()
	return s.Set
}

type randomLB struct {
	*table.Set
	r *rand.Rand
}

func (s randomLB) one(n int) bool { return s.r.IntN(n) == 0 }

func (s randomLB) pool(p *table.Pool) {
	p.Algorithm = table.Algorithm(1 + s.r.IntN(3))
	p.SNAT = table.SNATMode(s.r.IntN(3))
	if p.SNAT == table.SNATPool {
		p.SNATAddrs = []netip.Addr{addr("203.0.113.27"), addr("203.0.113.28")}[:1+s.r.IntN(2)]
		for _, a := range p.SNATAddrs {
			k := table.RouteKey{VRF: Red, Prefix: netip.PrefixFrom(a, 32)}
			s.Routes.Put(k, &table.Route{VRF: Red, Prefix: k.Prefix, Kind: table.RouteNAT})
			k.VRF = T0
			s.Routes.Put(k, &table.Route{VRF: T0, Prefix: k.Prefix, Kind: table.RouteDown, To: Red, Via: addr("100.64.0.1")})
		}
	}
	p.MinActive = uint32(s.r.IntN(3))
	for i := range p.Members {
		m := &p.Members[i]
		m.Weight = uint16(1 + s.r.IntN(4))
		m.Backup = s.one(4)
		if s.one(4) {
			m.Admin = table.AdminState(1 + s.r.IntN(3))
		}
		if s.one(4) {
			m.MaxConns = uint32(1 + s.r.IntN(4))
		}
		if s.one(6) {
			if s.Health == nil {
				s.Health = map[table.MemberID]table.Health{}
			}
			s.Health[m.ID] = table.Health{Down: true, Why: "test"}
		}
	}
}

func (s randomLB) server(v *table.VirtualServer) {
	if s.one(3) {
		v.MaxConns = uint32(1 + s.r.IntN(12))
	}
	if s.one(3) {
		v.Persist, v.PersistFor = uint32(v.ID), uint32(10+s.r.IntN(60))
	}
	if s.one(3) {
		v.Access = accessRulesets + table.RulesetID(v.ID-VSWeb)
		rule := &table.Rule{ID: 5000 + uint32(v.ID), Name: "access", Action: table.Allow, Remote: s.sets(), NotRemote: s.one(3)}
		s.Rulesets.Put(v.Access, &table.Ruleset{ID: v.Access, Name: "access", Rules: []*table.Rule{rule}})
	}
}

// sets picks one or two address sets.
func (s randomLB) sets() (out []table.AddrSetID) {
	var all []table.AddrSetID
	for id := table.AddrSetID(0); id < 1000; id++ {
		if s.AddrSets.Get(id) != nil {
			all = append(all, id)
		}
	}
	i := s.r.IntN(len(all))
	out = append(out, all[i])
	if j := i + 1 + s.r.IntN(3); j < len(all) {
		out = append(out, all[j])
	}
	return out
}

// gateways gives some of the routers and uplinks firewalls.
func (s randomLB) gateways() {
	next := gatewayRulesets
	ruleset := func() table.RulesetID {
		if s.one(3) {
			return 0
		}
		id := next
		next++
		s.Rulesets.Put(id, &table.Ruleset{ID: id, Name: "gateway", Gateway: true, Rules: s.rules(uint32(id) * 10)})
		return id
	}
	for _, id := range []table.VRFID{Red, Blue} {
		v := s.VRFs.Get(id)
		v.In, v.Out = ruleset(), ruleset()
	}
	for id := table.PortID(0); id < 1000; id++ {
		if u := s.Uplinks.Get(id); u != nil {
			u.In, u.Out = ruleset(), ruleset()
			u.MTU = uint16([]int{0, 0, 44, 60}[s.r.IntN(4)])
		}
	}
}

func (s randomLB) rules(first uint32) (out []*table.Rule) {
	for i := range uint32(1 + s.r.IntN(6)) {
		r := &table.Rule{
			ID: first + i, Name: "gateway", Action: table.RuleAction(1 + s.r.IntN(3)),
			AnyRemote: s.one(3), NotRemote: s.one(4), NotDst: s.one(4), Strict: s.one(4),
		}
		if s.one(2) {
			r.Action = table.Allow
		}
		if !r.AnyRemote {
			r.Remote = s.sets()
		}
		if !s.one(3) {
			r.Dst = s.sets()
		} else {
			r.NotDst = false
		}
		switch s.r.IntN(4) {
		case 0:
			r.Services = services(6, 22, 90)
		case 1:
			r.Services = services(17, 53, 53, 6, 8080, 8443)
		}
		if r.AnyRemote {
			r.NotRemote = false
		}
		out = append(out, r)
	}
	if s.one(2) {
		out = append(out, &table.Rule{ID: first + 9, Name: "last", Action: table.Allow, AnyRemote: true})
	}
	return out
}

// via lets what came by a virtual server into some ports.
func (s randomLB) via() {
	for _, p := range []table.PortID{Srv1, Srv2, Srv3, Far1} {
		if s.one(2) {
			continue
		}
		id := gatewayRulesets + 40 + table.RulesetID(p-Srv1)
		rule := &table.Rule{ID: 9900 + uint32(p), Name: "via", Action: table.Allow, AnyRemote: true, ViaVIP: true}
		if s.one(3) {
			rule.Action = table.Reject
		}
		s.Rulesets.Put(id, &table.Ruleset{ID: id, Name: "via", Rules: []*table.Rule{rule}})
		for k, e := range s.Endpoints.All() {
			if e.Port == p && len(e.In) < 3 {
				c := *e
				c.In = append([]table.RulesetID{id}, e.In...)
				s.Endpoints.Put(k, &c)
			}
		}
	}
}
