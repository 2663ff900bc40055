package ingress

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// canonicalHost returns the host of a request as tables have it: in lower case,
// without port and final dot.
func canonicalHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// canonicalPath returns the path of a URL in the form that tables compare, and
// whether it differs from what the URL says in more than its escapes.
//
// Escapes are resolved but for that of a slash, which is part of an element
// and does not end it, and of the percent sign; "." and ".." are followed, so
// that no path reaches what lies beside the one that a rule names.
func canonicalPath(u *url.URL) (path string, moved bool) {
	if u.RawPath == "" {
		path = strings.ReplaceAll(u.Path, "%", "%25")
	} else {
		path = resolve(u.EscapedPath())
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	clean := withoutDots(path)
	return clean, clean != path
}

// resolve resolves the escapes of an escaped path but for slash and percent.
func resolve(escaped string) string {
	elements := strings.Split(escaped, "/")
	for i, e := range elements {
		if text, err := url.PathUnescape(e); err == nil {
			elements[i] = slashAndPercent.Replace(text)
		}
	}
	return strings.Join(elements, "/")
}

// slashAndPercent is never changed.
var slashAndPercent = strings.NewReplacer("%", "%25", "/", "%2F")

// withoutDots follows "." and "..".
// Source: RFC 3986 §5.2.4.
func withoutDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	elements := strings.Split(path[1:], "/")
	out := make([]string, 0, len(elements))
	for i, e := range elements {
		switch e {
		case ".":
		case "..":
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, e)
			continue
		}
		if i == len(elements)-1 {
			out = append(out, "") // what they lead to is a directory
		}
	}
	return "/" + strings.Join(out, "/")
}

// rulePath returns the path of an Ingress rule in the form that tables compare.
// Errors: it is no path.
func rulePath(text string) (string, error) {
	if text == "" {
		return "/", nil
	}
	if !strings.HasPrefix(text, "/") {
		return "", fmt.Errorf("%q: begins with no slash", text)
	}
	u := &url.URL{}
	if raw, err := url.PathUnescape(text); err != nil {
		u.Path = text // a percent sign that begins no escape is one
	} else {
		u.Path, u.RawPath = raw, text
	}
	path, moved := canonicalPath(u)
	if moved {
		return "", fmt.Errorf("%q: has an element . or .. (none)", text)
	}
	return path, nil
}

// uncanonical gives u a canonical path.
func uncanonical(u *url.URL, path string) {
	elements := strings.Split(path, "/")
	for i, e := range elements {
		text, _ := url.PathUnescape(e) // a canonical path has two escapes only
		elements[i] = url.PathEscape(text)
	}
	u.RawPath = strings.Join(elements, "/")
	u.Path, _ = url.PathUnescape(u.RawPath)
}
