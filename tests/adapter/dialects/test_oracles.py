"""Every dialect against the source's own code: a file in its real layout gives the same maps in the zoo's network."""

from __future__ import annotations

import pytest
import torch

import medtransfer as mt
from medtransfer.adapter.source import SourceWeights, read_source
from tests.adapter.dialects.oracle_case import OracleCase, difference
from tests.adapter.dialects.oracles import MODULES


def build_home(case: OracleCase, weights: SourceWeights) -> torch.nn.Module:
    assert weights.home is not None
    arguments = {**weights.home.arguments, **(case.arguments or {})}
    return mt.create_model(weights.home.name, **arguments).eval()


@pytest.fixture(scope="session", params=MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def cases(request, tmp_path_factory) -> list[OracleCase]:
    return request.param.cases(tmp_path_factory.mktemp("oracle"))


def test_the_sources_own_network_gives_the_same_maps(cases):
    for case in cases:
        weights = read_source(case.path)
        assert weights.dialect == case.dialect, case.layout
        network = build_home(case, weights)
        report = mt.transfer(case.path, network, head="keep", min_coverage=1)
        assert report.coverage == 1, case.layout
        assert not report.mismatched, case.layout
        maps_here = case.maps_here or (lambda net, x: net.features(x))
        with torch.no_grad():
            assert difference(case, maps_here(network, case.x)) < 1e-5, case.layout


def test_every_tensor_of_the_file_is_in_the_report_once(cases):
    for case in cases:
        weights = read_source(case.path)
        report = mt.transfer(case.path, build_home(case, weights), head="keep", min_coverage=1)
        told = [entry.source_key for _, entries in report.groups() for entry in entries if entry.source_key]
        expected = sorted([*weights.keys.values(), *weights.unread])
        assert sorted(told) == expected, case.layout
        assert all(entry.how for entry in (*report.adapted, *report.dropped, *report.unexpected)), case.layout
