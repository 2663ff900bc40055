package intent

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// loadBalancer checks an object of a load balancer; others have nothing to
// check.
func (c *checker) loadBalancer(o Object) {
	switch v := o.(type) {
	case *LBService:
		c.lbService(v)
	case *LBVirtualServer:
		c.virtualServer(v)
	case *LBPool:
		c.lbPool(v)
	case *LBSourceIpPersistenceProfile:
		c.number("timeout", v.Timeout, 0, 1<<31-1)
		c.word("purge", v.Purge, "FULL", "NO_PURGE")
	case *LBPassiveMonitorProfile:
		c.number("max_fails", v.MaxFails, 0, 1<<31-1)
		c.number("timeout", v.Timeout, 0, 1<<31-1)
	case *LBTcpMonitorProfile:
		c.activeMonitor(&v.LBActiveMonitor)
	case *LBUdpMonitorProfile:
		c.activeMonitor(&v.LBActiveMonitor)
		if v.Send == "" {
			c.add("send", Required, "is missing (want what a member answers)")
		}
	case *LBIcmpMonitorProfile:
		c.activeMonitor(&v.LBActiveMonitor)
		if v.DataLength != nil {
			c.number("data_length", *v.DataLength, 0, 65507)
		}
	case *LBHttpMonitorProfile:
		c.activeMonitor(&v.LBActiveMonitor)
		c.httpMonitor(&v.LBHTTPMonitor)
	case *LBHttpsMonitorProfile:
		c.activeMonitor(&v.LBActiveMonitor)
		c.httpMonitor(&v.LBHTTPMonitor)
		if strings.ContainsAny(v.ServerName, "\r\n\x00") {
			c.value("server_name", BadValue, v.ServerName, "contains a line break")
		}
		if v.TrustedCA != "" && !strings.Contains(v.TrustedCA, "-----BEGIN CERTIFICATE-----") {
			c.add("trusted_ca", BadValue, "is not PEM (want -----BEGIN CERTIFICATE-----)")
		}
	}
}

func (c *checker) lbService(s *LBService) {
	c.needPath("connectivity_path", s.ConnectivityPath)
	c.word("size", s.Size, "SMALL", "MEDIUM", "LARGE", "XLARGE", "DLB")
	_, group := Find[*Group](c.t, s.ConnectivityPath)
	switch {
	case group && !s.IsDistributed():
		c.value("connectivity_path", Conflict, s.ConnectivityPath, "is a group, and the size is not DLB (want a Tier-0 or Tier-1)")
	case !group && s.IsDistributed() && c.t.objects[s.ConnectivityPath] != nil:
		c.value("connectivity_path", Conflict, s.ConnectivityPath, "is no group, and the size is DLB (want a Group)")
	case !s.IsDistributed():
		c.edge("connectivity_path", s.ConnectivityPath)
	}
}

func (c *checker) virtualServer(v *LBVirtualServer) {
	c.vip(v)
	if len(v.Ports) == 0 {
		c.add("ports", Required, "is missing (want ports or port ranges such as 80 or 8000-8080)")
	}
	for i, s := range v.Ports {
		first, _, f := parsePorts(s)
		if c.fault(indexed("ports", i), f) && first == 0 {
			c.value(indexed("ports", i), BadPort, s, "is not a port that a packet can have (1 to 65535)")
		}
	}
	c.memberPorts(v)
	c.number("max_concurrent_connections", v.MaxConcurrentConnections, 0, 1<<32-1)
	c.number("max_new_connection_rate", v.MaxNewConnectionRate, 0, 1<<32-1)
	c.needPath("pool_path", v.PoolPath)
	c.needPath("sorry_pool_path", v.SorryPoolPath)
	c.needPath("lb_service_path", v.LBServicePath)
	c.needPath("lb_persistence_profile_path", v.LBPersistenceProfilePath)
	if a := v.AccessListControl; a != nil {
		c.needWord("access_list_control.action", a.Action, "ALLOW", "DROP")
		if a.GroupPath == "" {
			c.add("access_list_control.group_path", Required, "is missing (want the path of a group)")
		}
		c.needPath("access_list_control.group_path", a.GroupPath)
	}
	c.layer4(v)
}

// vip checks the address of a virtual server.
func (c *checker) vip(v *LBVirtualServer) {
	a, f := parseAddr(v.IPAddress)
	if !c.fault("ip_address", f) {
		return
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		c.value("ip_address", NotAHost, v.IPAddress, "is not a unicast address")
		return
	}
	pool, ok := Find[*LBPool](c.t, v.PoolPath)
	if !ok {
		return
	}
	for i, m := range pool.Members {
		if b, f := parseAddr(m.IPAddress); f == nil && b.Is4() != a.Is4() {
			c.value("pool_path", Conflict, pool.Path, "has "+indexed("members", i)+" "+m.IPAddress+", which is not of the family of "+a.String())
			return
		}
	}
}

// memberPorts checks the ports of members that have none of their own.
func (c *checker) memberPorts(v *LBVirtualServer) {
	const field = "default_pool_member_ports"
	list := v.DefaultPoolMemberPorts
	if len(list) == 0 || slices.Equal(list, v.Ports) {
		return
	}
	first, last, f := parsePorts(list[0])
	switch {
	case !c.fault(indexed(field, 0), f):
	case len(list) > 1 || first != last:
		c.value(field, Unsupported, strings.Join(list, ","), "is not supported yet (one port, or the same as ports)")
	case first == 0:
		c.value(indexed(field, 0), BadPort, list[0], "is not a port that a packet can have (1 to 65535)")
	}
}

// layer4 refuses what needs a look into the payload.
func (c *checker) layer4(v *LBVirtualServer) {
	const only = "is of layer 7, only layer 4 is carried "
	if v.ApplicationProfilePath == "" {
		c.add("application_profile_path", Required, "is missing (want the path of an LBFastTcpProfile or LBFastUdpProfile)")
	}
	c.needPath("application_profile_path", v.ApplicationProfilePath)
	if _, http := Find[*LBHttpProfile](c.t, v.ApplicationProfilePath); http {
		c.value("application_profile_path", Unsupported, v.ApplicationProfilePath, only+"(LBFastTcpProfile, LBFastUdpProfile)")
	}
	if _, cookie := Find[*LBCookiePersistenceProfile](c.t, v.LBPersistenceProfilePath); cookie {
		c.value("lb_persistence_profile_path", Unsupported, v.LBPersistenceProfilePath, only+"(LBSourceIpPersistenceProfile)")
	}
	if len(v.Rules) > 0 {
		c.value("rules", Unsupported, strconv.Itoa(len(v.Rules))+" rules", "are of layer 7, only layer 4 is carried (want none)")
	}
	if v.ClientSSLProfileBinding != nil {
		c.add("client_ssl_profile_binding", Unsupported, only+"(want it empty)")
	}
	if v.ServerSSLProfileBinding != nil {
		c.add("server_ssl_profile_binding", Unsupported, only+"(want it empty)")
	}
}

func (c *checker) lbPool(p *LBPool) {
	c.word("algorithm", p.Algorithm, "ROUND_ROBIN", "WEIGHTED_ROUND_ROBIN", "LEAST_CONNECTION", "WEIGHTED_LEAST_CONNECTION", "IP_HASH")
	c.number("min_active_members", p.MinActiveMembers, 0, MaxLBMembers)
	if p.MemberGroup != nil {
		c.memberGroup(p)
	}
	if len(p.Members) > MaxLBMembers {
		c.add("members", TooLong, "has "+strconv.Itoa(len(p.Members))+" members (at most "+strconv.Itoa(MaxLBMembers)+")")
		return
	}
	type place struct {
		addr netip.Addr
		port uint16
	}
	seen := map[place]bool{}
	for i, m := range p.Members {
		field := indexed("members", i)
		a, ok := c.memberAddress(field+".ip_address", m.IPAddress)
		port := c.memberPort(field+".port", m.Port)
		if ok && seen[place{a, port}] {
			c.value(field+".ip_address", Duplicate, m.IPAddress, "is given twice with the same port")
		}
		seen[place{a, port}] = ok
		c.setting(field, m.Weight, m.AdminState)
		c.number(field+".max_concurrent_connections", m.MaxConcurrentConnections, 0, 1<<32-1)
	}
	c.snat(p)
	c.monitors(p)
}

// memberAddress checks the address of a member.
func (c *checker) memberAddress(field, s string) (netip.Addr, bool) {
	a, f := parseAddr(s)
	if !c.fault(field, f) {
		return a, false
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		c.value(field, NotAHost, s, "is not a unicast address")
		return a, false
	}
	return a, true
}

// memberPort checks the port of a member.
func (c *checker) memberPort(field, s string) uint16 {
	if s == "" {
		return 0
	}
	first, last, f := parsePorts(s)
	if c.fault(field, f) && (first != last || first == 0) {
		c.value(field, BadPort, s, "is not one port that a packet can have (1 to 65535)")
	}
	return first
}

// setting checks what members and members of groups have.
func (c *checker) setting(field string, weight int64, state string) {
	c.number(field+".weight", weight, 0, 256)
	c.word(field+".admin_state", state, "ENABLED", "DISABLED", "GRACEFUL_DISABLED")
}

func (c *checker) memberGroup(p *LBPool) {
	const field = "member_group"
	g := p.MemberGroup
	if len(p.Members) > 0 {
		c.add(field, Conflict, "is given beside members (want one of them)")
	}
	if g.GroupPath == "" {
		c.add(field+".group_path", Required, "is missing (want the path of a group)")
	}
	c.needPath(field+".group_path", g.GroupPath)
	c.number(field+".port", g.Port, 0, 65535)
	c.word(field+".ip_revision_filter", g.IPRevisionFilter, "IPV4", "IPV6", "IPV4_IPV6")
	c.number(field+".max_ip_list_size", g.MaxIPListSize, 0, 1<<31-1)
	for i, m := range g.CustomizedMembers {
		at := indexed(field+".customized_members", i)
		c.memberAddress(at+".ip_address", m.IPAddress)
		c.setting(at, m.Weight, m.AdminState)
	}
}

// snat checks which source members see.
func (c *checker) snat(p *LBPool) {
	const field = "snat_translation"
	t := p.SNATTranslation
	if t == nil {
		return
	}
	c.word(field+".type", t.Type, "LBSnatAutoMap", "LBSnatDisabled", "LBSnatIpPool")
	if t.Type != "LBSnatIpPool" {
		if len(t.IPAddresses) > 0 {
			c.add(field+".ip_addresses", Conflict, "is given for "+p.SNATType()+" (only LBSnatIpPool has it)")
		}
		return
	}
	if len(t.IPAddresses) == 0 {
		c.add(field+".ip_addresses", Required, "is missing (LBSnatIpPool wants 1 to "+strconv.Itoa(MaxLBSnatAddresses)+" addresses)")
	}
	ok := true
	for i, e := range t.IPAddresses {
		at := indexed(field+".ip_addresses", i)
		_, f := parseAddresses(e.IPAddress)
		ok = c.fault(at+".ip_address", f) && ok
		c.number(at+".prefix_length", e.PrefixLength, 0, 128)
	}
	if list, _ := p.snatAddresses(); ok && len(list) > MaxLBSnatAddresses {
		c.add(field+".ip_addresses", TooLong, "has more than "+strconv.Itoa(MaxLBSnatAddresses)+" addresses (at most "+strconv.Itoa(MaxLBSnatAddresses)+")")
	}
}

// monitors checks that each monitor stands where its kind belongs.
func (c *checker) monitors(p *LBPool) {
	c.needPaths("active_monitor_paths", p.ActiveMonitorPaths)
	for i, path := range p.ActiveMonitorPaths {
		if _, passive := Find[*LBPassiveMonitorProfile](c.t, path); passive {
			c.value(indexed("active_monitor_paths", i), WrongType, path, "is a LBPassiveMonitorProfile (want it as passive_monitor_path)")
		}
	}
	c.needPath("passive_monitor_path", p.PassiveMonitorPath)
	if o := c.t.objects[p.PassiveMonitorPath]; o != nil {
		if _, passive := o.(*LBPassiveMonitorProfile); !passive {
			c.value("passive_monitor_path", WrongType, p.PassiveMonitorPath, "is a "+o.Meta().ResourceType+" (want LBPassiveMonitorProfile)")
		}
	}
}

// activeMonitor checks times and counts; 0 stands for the default.
func (c *checker) activeMonitor(m *LBActiveMonitor) {
	c.number("interval", m.Interval, 0, 1<<31-1)
	c.number("timeout", m.Timeout, 0, 1<<31-1)
	c.number("fall_count", m.FallCount, 0, 1<<31-1)
	c.number("rise_count", m.RiseCount, 0, 1<<31-1)
	c.number("monitor_port", m.MonitorPort, 0, 65535)
}

func (c *checker) httpMonitor(m *LBHTTPMonitor) {
	c.word("request_method", m.RequestMethod, "GET", "OPTIONS", "POST", "HEAD", "PUT")
	c.word("request_version", m.RequestVersion, "HTTP_VERSION_1_0", "HTTP_VERSION_1_1")
	if m.RequestURL != "" && m.RequestURL[0] != '/' {
		c.value("request_url", BadValue, m.RequestURL, "does not begin with a slash (such as /health)")
	}
	if strings.ContainsFunc(m.RequestURL, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		c.value("request_url", BadValue, m.RequestURL, "contains a space or line break (such as /health)")
	}
	for i, h := range m.RequestHeaders {
		if !isHeaderName(h.HeaderName) {
			c.value(indexed("request_headers", i)+".header_name", BadValue, h.HeaderName, "is not the name of a header (such as Host)")
		}
		if strings.ContainsAny(h.HeaderValue, "\r\n\x00") {
			c.value(indexed("request_headers", i)+".header_value", BadValue, h.HeaderValue, "contains a line break")
		}
	}
	for i, n := range m.ResponseStatusCodes {
		c.number(indexed("response_status_codes", i), n, 100, 599)
	}
}

// isHeaderName reports whether a text is a token. Source: RFC 9110 §5.6.2.
func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
