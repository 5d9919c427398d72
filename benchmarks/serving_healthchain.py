"""A CDS Hooks service of HealthChain, for `serving_cds`: `python serving_healthchain.py PORT constant|parse`.

It runs in an environment of its own, without our package. `parse` reads the prefetched resources as HealthChain's adapter does.
"""

from __future__ import annotations

import sys

import uvicorn
from healthchain.gateway import CDSHooksService, HealthChainAPI
from healthchain.io.adapters.cdsfhiradapter import CdsFhirAdapter
from healthchain.models import Card, CDSRequest, CDSResponse

CARD = Card(
    summary="Readmission within 30 days: 15% risk", indicator="info", source={"label": "constant"}, detail="x" * 800
)


def main() -> None:
    port, what = int(sys.argv[1]), sys.argv[2]
    service, adapter = CDSHooksService(), CdsFhirAdapter()

    @service.hook("encounter-discharge", id="risk")
    def answer(request: CDSRequest) -> CDSResponse:
        if what == "parse":
            adapter.parse(request)
        return CDSResponse(cards=[CARD])

    api = HealthChainAPI()
    api.register_service(service, path="/cds")
    uvicorn.run(api, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
