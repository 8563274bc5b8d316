// Package checks judges the base services' files by the services' own code: Prometheus's loader,
// discovery, relabelling and query engine, snmp_exporter's collector. It has nothing but tests,
// and a module of its own, so that none of that code becomes a dependency of the program.
package checks
