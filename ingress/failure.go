package ingress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
)

// statusClientGone is what is counted if the client left before its answer; it
// is never sent.
const statusClientGone = 499

// refuse answers with a status and a reason, a line each.
func refuse(w http.ResponseWriter, status int, lines ...string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(strings.Join(lines, "\n") + "\n")) // a client that left needs no answer
}

// quote words what a client sent, shortened.
func quote(text string) string {
	const most = 200 // bytes
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}

// fail answers a request that no endpoint answered. What the network says of
// the first endpoint that was not reached is asked for.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	log := p.log.With("ingress", x.route.Ingress.String(), "upstream", x.reached(), "error", err)
	switch {
	case r.Context().Err() != nil:
		p.counts.failure("client_gone")
		w.WriteHeader(statusClientGone) // reaches nobody
	case errors.Is(err, errResponseTimeout):
		p.counts.failure("response_timeout")
		log.Debug("upstream gave no response")
		refuse(w, http.StatusGatewayTimeout,
			"upstream response timeout: no answer within "+x.route.Timeout.String()+" from "+x.reached())
	case isLost(err):
		p.counts.failure("connect")
		lines := []string{"upstream connection failure: " + p.why(err) + " at " + x.reached()}
		if p.explain != nil {
			if text := p.explain.Explain(r.Context(), x.tried[0]); text != "" {
				lines = append(lines, text)
			}
		}
		log.Debug("upstream not reached")
		refuse(w, http.StatusServiceUnavailable, lines...)
	default:
		p.counts.failure("reset")
		log.Debug("upstream broke off")
		refuse(w, http.StatusBadGateway, "upstream connection broke off before its response: "+x.reached())
	}
}

// why words what happened to a connection.
func (p *Proxy) why(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "prohibited"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer within " + p.limits.Connect.String()
	}
	return "no connection"
}
