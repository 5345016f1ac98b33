package main

// redirectCommands are what meshvmctl redirect does, in the order in which its help lists them.
func redirectCommands() []command {
	return []command{
		{name: "plan", summary: "show what apply would do on this machine, and why; changes nothing", run: runRedirectPlan, declare: new(redirectPlan).declare},
		{name: "apply", summary: "have this machine ask CoreDNS for names, once CoreDNS answers", run: runRedirectApply, declare: new(redirectApply).declare},
		{name: "revert", summary: "give name resolution back", run: runRedirectRevert},
		{name: "status", summary: "show what is redirected", run: runRedirectStatus, declare: new(redirectStanding).declare},
		{name: "watch", summary: "keep it so while networks and resolvers change, until a signal", run: runRedirectWatch, declare: new(redirectWatch).declare},
		{name: "upstreams", summary: "write the machine's own resolvers to the file that CoreDNS forwards by", run: runRedirectUpstreams},
		{name: "recover", summary: "undo what an earlier boot left behind", run: runRedirectRecover},
	}
}
